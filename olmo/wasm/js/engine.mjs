// A model's library run by TVM's web runtime (npm @mlc-ai/web-runtime): one function for each
// request of olmo/wasm/engine.py, the same in Node and in a page.

const PAGE_SIZE = 16; // tokens; the attention kernels are compiled for it

/**
 * Open a library with the weights of a converted directory.
 * `read(name)` gives a file of the directory as a Uint8Array; `gpu` is a GPUDevice, or undefined
 * for libraries that run on the CPU; at most `sequences` are live at once.
 */
export async function open(tvmjs, library, read, sequences, gpu) {
  const tvm = await tvmjs.instantiate(library, tvmjs.createPolyfillWASI(), console.error);
  if (gpu !== undefined) tvm.initWebGPU(gpu);
  const device = gpu === undefined ? tvm.cpu() : tvm.webgpu();
  tvm.beginScope();
  const vm = tvm.createVirtualMachine(device);
  if (gpu !== undefined) await tvm.asyncLoadWebGPUPipelines(vm.getInternalModule());
  const metadata = JSON.parse(vm.getFunction("_metadata")().toString());
  await load(tvm, device, read);
  const parameters = tvm.getParamsFromCacheByName(metadata.params.map((p) => p.name));
  const pages = Math.ceil(metadata.context_window_size / PAGE_SIZE) * sequences;
  const sizes = [sequences, pages * PAGE_SIZE, metadata.prefill_chunk_size, PAGE_SIZE, 0];
  const cache = vm.getFunction("create_tir_paged_kv_cache")(
    ...sizes.map((size) => tvm.makeShapeTuple([size])),
  );
  const kv = (name) => tvm.getGlobalFunc(`vm.builtin.kv_state_${name}`);
  const state = { begin: kv("begin_forward"), end: kv("end_forward"), clear: kv("clear") };
  const addSequence = kv("add_sequence");
  const embed = vm.getFunction("embed");

  const tensor = (values, dtype, shape) => tvm.empty(shape, dtype, device).copyFrom(values);

  async function fetch(onDevice) {
    const onHost = tvm.empty(onDevice.shape, onDevice.dtype, tvm.cpu()).copyFrom(onDevice);
    await device.sync();
    return onHost.toArray();
  }

  // Run a function of the model on tokens; `shape` is that of the embeddings without their width.
  async function forward(name, ids, lengths, tokens, shape, ...more) {
    tvm.beginScope();
    const rows = embed(tensor(tokens, "int32", [tokens.length]), parameters);
    state.begin(cache, tvm.makeShapeTuple(ids), tvm.makeShapeTuple(lengths));
    const input = rows.view([...shape, rows.shape[1]]);
    const result = vm.getFunction(name)(input, ...more, cache, parameters);
    state.end(cache);
    const logits = await fetch(result.get(0));
    tvm.endScope();
    return logits;
  }

  return {
    metadata,
    add: (sequence) => addSequence(cache, tvm.scalar(sequence, "int64")),
    clear: () => state.clear(cache),
    prefill: (sequence, tokens) =>
      forward("prefill", [sequence], [tokens.length], tokens, [1, tokens.length]),
    decode: (sequence, token) => forward("decode", [sequence], [1], [token], [1, 1]),
    batch_prefill: (ids, prompts) => {
      const lengths = prompts.map((prompt) => prompt.length);
      let end = -1;
      const last = lengths.map((length) => (end += length));
      const positions = tensor(last, "int32", [last.length]);
      return forward("batch_prefill", ids, lengths, prompts.flat(), [1, end + 1], positions);
    },
    batch_decode: (ids, tokens) =>
      forward("batch_decode", ids, ids.map(() => 1), tokens, [ids.length, 1]),
    // The largest memory so far, in bytes: WebAssembly's never shrinks.
    memory: () => tvm.memory.memory.buffer.byteLength,
  };
}

// Put every tensor of the directory into TVM's cache of parameters.
async function load(tvm, device, read) {
  const manifest = JSON.parse(new TextDecoder().decode(await read("tensor-cache.json")));
  for (const shard of manifest.records) {
    const bytes = await read(shard.dataPath);
    for (const record of shard.records) {
      tvm.beginScope();
      const onHost = tvm.empty(record.shape, record.dtype, tvm.cpu());
      const onDevice = tvm.empty(record.shape, record.dtype, device);
      tvm.loadTensorCacheRecordData(bytes, record, onHost, onDevice);
      await device.sync();
      tvm.tensorCacheUpdate(record.name, onDevice, false);
      tvm.endScope();
    }
  }
}
