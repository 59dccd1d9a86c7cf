// node browser.mjs PACKAGES CHROMIUM: serves a library for WebGPU, run by a page in Chromium.
// PACKAGES is the directory that has node_modules.

import { launch } from "./chromium.mjs";
import { serve } from "./protocol.mjs";

let chromium;

// These run in the page.
const inPage = {
  async open([sequences]) {
    await new Promise((done, failed) => {
      const script = document.createElement("script");
      Object.assign(script, { src: "/packages/@mlc-ai/web-runtime/lib/index.js", onload: done, onerror: failed });
      document.head.append(script);
    });
    const { open } = await import("/js/engine.mjs");
    const read = async (name) => {
      const response = await fetch(`/model/${name}`);
      if (!response.ok) throw new Error(`${name}: ${response.status}`);
      return new Uint8Array(await response.arrayBuffer());
    };
    const library = await (await fetch("/library.wasm")).arrayBuffer();
    const found = await tvmjs.detectGPUDevice();
    if (found === undefined) throw new Error("this browser has no WebGPU");
    window.engine = await open(tvmjs, library, read, sequences, found.device);
    return window.engine.metadata;
  },
  async call([method, args]) {
    const result = await window.engine[method](...args);
    if (!(result instanceof Float32Array)) return result;
    const bytes = new Uint8Array(result.buffer, result.byteOffset, result.byteLength);
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return { float32: btoa(text) };
  },
  // Ask each question in a conversation of its own, through npm @mlc-ai/web-llm as it is.
  async ask([questions, tokens]) {
    const webllm = await import("/packages/@mlc-ai/web-llm/lib/index.js");
    const model = { model_id: "model", model: `${origin}/model`, model_lib: `${origin}/library.wasm` };
    const engine = await webllm.CreateMLCEngine("model", { appConfig: { model_list: [model] } });
    const answers = [];
    for (const content of questions) {
      await engine.resetChat();
      const reply = await engine.chat.completions.create({
        messages: [{ role: "user", content }],
        temperature: 0,
        max_tokens: tokens,
      });
      answers.push(reply.choices[0].message.content);
    }
    await engine.unload();
    return answers;
  },
};

async function start(library, model) {
  const [packages, executable] = process.argv.slice(2);
  chromium ??= await launch(executable, packages, {
    "/library.wasm": library,
    "/model/resolve/main/": model,
    "/model/": model,
  });
  return chromium.page;
}

await serve(async (method, args) => {
  if (method === "open") {
    const [library, model, sequences] = args;
    return (await start(library, model)).evaluate(inPage.open, [sequences]);
  }
  if (method === "ask") {
    const [library, model, ...more] = args;
    return (await start(library, model)).evaluate(inPage.ask, more);
  }
  return chromium.page.evaluate(inPage.call, [method, args]);
});
await chromium?.close();
process.exit(0);
