// A headless Chromium with WebGPU, on a page served from this process, with the packages of npm.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = { html: "text/html", js: "text/javascript", mjs: "text/javascript", json: "application/json", wasm: "application/wasm" };
// SwiftShader is WebGPU without a GPU: the same on every machine, and there on every machine.
const FLAGS = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--no-sandbox"];

/**
 * Start `executable`; `packages` is the directory that has node_modules. `files` are places by the
 * path under which they are served: a directory for a path that ends in "/", else one file.
 */
export async function launch(executable, packages, files) {
  const root = resolve(packages);
  const { chromium } = createRequire(join(root, "package.json"))("playwright-core");
  const served = {
    ...files,
    "/packages/": join(root, "node_modules"),
    "/js/": dirname(fileURLToPath(import.meta.url)),
  };
  const server = createServer((request, response) => answer(served, request, response));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const browser = await chromium.launch({ executablePath: executable, headless: true, args: FLAGS });
  const page = await browser.newPage();
  page.on("console", (message) => console.error(message.text()));
  page.on("crash", () => console.error("the page has crashed"));
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  return {
    page,
    close: async () => {
      await browser.close();
      server.close();
      server.closeAllConnections();
    },
  };
}

async function answer(served, request, response) {
  const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
  if (path === "/") return response.setHeader("Content-Type", TYPES.html).end("<!doctype html>");
  const file = place(served, path);
  const found = file && (await stat(file).catch(() => undefined));
  if (!found?.isFile()) return response.writeHead(404).end();
  response.setHeader("Content-Type", TYPES[file.split(".").pop()] ?? "application/octet-stream");
  response.setHeader("Content-Length", found.size);
  createReadStream(file).pipe(response);
}

function place(served, path) {
  for (const [prefix, where] of Object.entries(served)) {
    if (prefix === path) return where;
    if (!prefix.endsWith("/") || !path.startsWith(prefix)) continue;
    const file = resolve(where, path.slice(prefix.length));
    if (file.startsWith(resolve(where) + sep)) return file;
  }
  return undefined;
}
