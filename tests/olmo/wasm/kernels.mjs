// node kernels.mjs PACKAGES CHROMIUM: calls functions of a library with tensors, in Chromium.

import { launch } from "../../../olmo/wasm/js/chromium.mjs";
import { serve } from "../../../olmo/wasm/js/protocol.mjs";

const [packages, executable] = process.argv.slice(2);
let chromium;

async function open() {
  await new Promise((done, failed) => {
    const script = document.createElement("script");
    Object.assign(script, { src: "/packages/@mlc-ai/web-runtime/lib/index.js", onload: done, onerror: failed });
    document.head.append(script);
  });
  const { device } = await tvmjs.detectGPUDevice();
  const library = await (await fetch("/library.wasm")).arrayBuffer();
  const tvm = await tvmjs.instantiate(library, tvmjs.createPolyfillWASI());
  tvm.initWebGPU(device);
  tvm.beginScope();
  const vm = tvm.createVirtualMachine(tvm.webgpu());
  await tvm.asyncLoadWebGPUPipelines(vm.getInternalModule());
  Object.assign(window, { tvm, vm });
}

// Inputs are [dtype, shape, values]; results their values.
async function call([name, inputs]) {
  tvm.beginScope();
  const device = tvm.webgpu();
  const given = inputs.map(([dtype, shape, values]) => tvm.empty(shape, dtype, device).copyFrom(values));
  const result = vm.getFunction(name)(...given);
  const tensors = result.shape ? [result] : Array.from({ length: result.size() }, (_, i) => result.get(i));
  const onHost = tensors.map((t) => tvm.empty(t.shape, t.dtype, tvm.cpu()).copyFrom(t));
  await device.sync();
  const values = onHost.map((t) => Array.from(t.toArray()));
  tvm.endScope();
  return values;
}

await serve(async (method, args) => {
  if (method !== "open") return chromium.page.evaluate(call, [method, args]);
  chromium = await launch(executable, packages, { "/library.wasm": args[0] });
  return chromium.page.evaluate(open);
});
await chromium?.close();
process.exit(0);
