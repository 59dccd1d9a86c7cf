// node node.mjs PACKAGES: serves a library for WebAssembly on the CPU, run by Node itself.
// PACKAGES is the directory that has node_modules.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { open } from "./engine.mjs";
import { serve } from "./protocol.mjs";

const tvmjs = createRequire(join(resolve(process.argv[2]), "package.json"))("@mlc-ai/web-runtime");
let engine;

await serve(async (method, args) => {
  if (method !== "open") return engine[method](...args);
  const [library, model, sequences] = args;
  const read = async (name) => new Uint8Array(await readFile(join(model, name)));
  engine = await open(tvmjs, await readFile(library), read, sequences);
  return engine.metadata;
});
process.exit(0);
