"""llama.cpp's side of `bench/decode.py`: makes Q4_0 of a checkpoint, and runs it when told to.

Run by a Python that has llama-cpp-python 0.3.36 and gguf:

    python bench/decode_llama.py make CHECKPOINT OUT.gguf
    python bench/decode_llama.py serve FILE.gguf THREADS

`serve` reads lines "prefill N" and "decode N" and answers each with seconds: wall and CPU.
"""

import ctypes
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def make(checkpoint: Path, out: Path) -> None:
    """Write the float32 safetensors checkpoint of an OLMo model as pure Q4_0."""
    config = json.loads((checkpoint / "config.json").read_bytes())
    heads = config["num_attention_heads"]
    whole = out.with_suffix(".f16.gguf")
    writer = gguf.GGUFWriter(str(whole), "olmo")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_rope_freq_base(config["rope_theta"])
    tokens = [f"token{i}" for i in range(config["vocab_size"])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("olmo")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["to ken"])  # the loader wants one
    for name, values in _tensors(checkpoint):
        parts = name.split(".")
        if name == "model.embed_tokens.weight":
            writer.add_tensor("token_embd.weight", values.astype(np.float16))
            continue
        matrix = MATRICES[".".join(parts[3:5])]
        if matrix in {"attn_q", "attn_k"}:  # pairs of rotary embedding lie side by side there
            pairs = values.reshape(heads, 2, -1, values.shape[1])
            values = pairs.swapaxes(1, 2).reshape(values.shape)  # noqa: PLW2901 - the same matrix
        writer.add_tensor(f"blk.{parts[2]}.{matrix}.weight", values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    options.pure = True
    names = str(whole).encode(), str(out).encode()
    if llama_cpp.llama_model_quantize(*names, ctypes.byref(options)):
        sys.exit(f"{whole}: cannot be quantized")
    whole.unlink()


def _tensors(checkpoint: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    for path in sorted(checkpoint.glob("*.safetensors")):
        data = np.memmap(path, np.uint8, "r")
        size = int(data[:8].view(np.uint64)[0])
        header = json.loads(data[8 : 8 + size].tobytes())
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            yield name, data[begin:end].view(np.float32).reshape(entry["shape"])


def serve(path: Path, threads: int) -> None:
    """Answer commands until there are no more."""
    model = llama_cpp.Llama(
        str(path), n_ctx=2048, n_batch=2048, n_ubatch=2048, n_threads=threads,
        n_threads_batch=threads, verbose=False,
    )  # fmt: skip
    for line in sys.stdin:
        command, count = line.split()
        wall, cpu = time.perf_counter(), time.process_time()
        if command == "prefill":
            model.reset()
            model.eval(list(range(100, 100 + int(count))))
        else:
            for _ in range(int(count)):
                model.eval([5])
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    action, first, second = sys.argv[1:]
    if action == "make":
        make(Path(first), Path(second))
    else:
        serve(Path(first), int(second))
