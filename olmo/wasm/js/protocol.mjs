// Requests as lines of JSON on standard input, one answer for each on standard output:
// {"method", "arguments"} gives {"result"} or {"error"}. Arrays of floats travel as base64 of
// little-endian float32.

import { createInterface } from "node:readline";

console.log = console.info = console.debug = console.error; // standard output is for answers

export const packed = (result) =>
  result instanceof Float32Array
    ? { float32: Buffer.from(result.buffer, result.byteOffset, result.byteLength).toString("base64") }
    : result;

/** Serve `call(method, args)` until standard input ends. */
export async function serve(call) {
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    let answer;
    try {
      answer = { result: packed((await call(request.method, request.arguments)) ?? null) };
    } catch (error) {
      answer = { error: String(error?.stack ?? error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}
