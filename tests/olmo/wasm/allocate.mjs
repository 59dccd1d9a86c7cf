// node allocate.mjs MODULE: uses the allocator at random; every block keeps what is written in it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

let growths = 0;
const env = { emscripten_notify_memory_growth: () => growths++ };
const { instance } = await WebAssembly.instantiate(await readFile(process.argv[2]), { env });
const { malloc, free, calloc, realloc, aligned_alloc, memory } = instance.exports;
const bytes = (at, size) => new Uint8Array(memory.buffer, at >>> 0, size);

let seed = 1;
const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
const blocks = [];

function check({ at, size, mark }) {
  assert.ok(bytes(at, size).every((byte) => byte === mark), `block of ${size} at ${at}`);
}

for (let step = 0; step < 20000; step++) {
  const size = random(20) === 0 ? random(300000) : random(600);
  const mark = step % 251;
  const action = random(10);
  if (action < 4 || blocks.length === 0) {
    const alignment = [16, 64, 4096][random(3)];
    const at = action === 0 ? aligned_alloc(alignment, size) : action === 1 ? calloc(size, 1) : malloc(size);
    assert.equal(at % (action === 0 ? alignment : 16), 0);
    if (action === 1) check({ at, size, mark: 0 });
    bytes(at, size).fill(mark);
    blocks.push({ at, size, mark });
  } else {
    const index = random(blocks.length);
    const block = blocks[index];
    check(block);
    if (action < 6) {
      const at = realloc(block.at, size);
      check({ at, size: Math.min(size, block.size), mark: block.mark });
      bytes(at, size).fill(mark);
      blocks[index] = { at, size, mark };
    } else {
      free(block.at);
      blocks[index] = blocks.at(-1);
      blocks.pop();
    }
  }
}
blocks.forEach(check);
const sorted = blocks.toSorted((a, b) => a.at - b.at);
sorted.slice(1).forEach((b, i) => assert.ok(sorted[i].at + sorted[i].size <= b.at, "overlap"));
for (const { at } of blocks) free(at);
assert.ok(growths > 0);

// Everything is one free block again: what was there in pieces is given as a whole.
const before = memory.buffer.byteLength;
const whole = malloc(before - 200000);
assert.ok(whole !== 0);
free(whole);
assert.equal(memory.buffer.byteLength, before);

// Large tensors take the memory they need: 384 MiB in pieces, within a hundredth.
const start = memory.buffer.byteLength;
const tensors = Array.from({ length: 96 }, () => aligned_alloc(64, 4 << 20));
assert.ok(tensors.every((at) => at !== 0));
assert.ok(memory.buffer.byteLength <= start + (384 << 20) * 1.01, "overhead");

// What there is no room for is refused, and nothing is lost.
assert.equal(malloc(0xffffffff), 0);
assert.equal(calloc(65536, 65536), 0);
assert.notEqual(malloc(1000), 0);
