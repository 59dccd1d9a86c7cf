"""A library's functions, called by their names as MLC's runtime calls them."""

import json
from typing import Any

import numpy as np
import tvm
from tvm import relax

from olmo.conversion.tensor_cache_reader import read_tensor_cache
from olmo.generation.runtime import PAGE_SIZE
from tests.olmo.libraries import PROMPT, Built, Logits


class Session:
    """The library's functions with its parameters and an empty KV cache."""

    def __init__(self, built: Built) -> None:
        module = tvm.runtime.load_module(str(built.library))
        self.vm = relax.VirtualMachine(module, tvm.cpu())
        self.direct = module
        self.metadata = json.loads(str(self.vm["_metadata"]()))
        cache = read_tensor_cache(built.model_dir)
        self.parameters = [tensor(cache.read(p["name"])) for p in self.metadata["params"]]
        sizes = (4, 4 * 512, 512, PAGE_SIZE, 0)
        create = self.vm["create_tir_paged_kv_cache"]
        self.cache = create(*(tvm.runtime.ShapeTuple([size]) for size in sizes))

    def embed(self, tokens: list[int]) -> np.ndarray:
        return self.vm["embed"](tensor(np.array(tokens, np.int32)), self.parameters).numpy()

    def forward(self, name: str, sequences: dict[int, int], *arguments: np.ndarray) -> np.ndarray:
        """Run a function on embeddings, new tokens by sequence; sequences begin on first use."""
        lengths = list(sequences.values())
        self.kv("begin_forward", shape(list(sequences)), shape(lengths))
        out, _ = self.vm[name](*map(tensor, arguments), self.cache, self.parameters)
        self.kv("end_forward")
        return out.numpy()

    def kv(self, name: str, *arguments: Any) -> None:
        tvm.get_global_func(f"vm.builtin.kv_state_{name}")(self.cache, *arguments)


def tensor(array: np.ndarray) -> Any:
    return tvm.runtime.tensor(np.ascontiguousarray(array))


def shape(values: list[int]) -> Any:
    return tvm.runtime.ShapeTuple(values)


def verified(built: Built, tokens: list[int]) -> Logits:
    """Return the logits after the prompt and each later token, by `batch_verify` of them all.

    A second sequence, of other tokens and another length, is verified at the same time.
    """
    session, begun, drafted = Session(built), tokens[: PROMPT - 1], tokens[PROMPT - 1 :]
    other = begun[:19][::-1]
    for sequence, text in enumerate((begun, other[:14])):
        session.kv("add_sequence", sequence)
        session.forward("prefill", {sequence: len(text)}, session.embed(text)[None])
    embedded = session.embed(drafted + other[14:])[None]
    found = session.forward("batch_verify", {0: len(drafted), 1: 5}, embedded)
    return np.asarray(found[0, : len(drafted)])


def by_hidden_states(built: Built, tokens: list[int]) -> Logits:
    """Return the logits after the prompt and each later token, by the states before them.

    Every function that gives states has some of the tokens.
    """
    session, prompt, rest = Session(built), tokens[:PROMPT], tokens[PROMPT:]
    session.kv("add_sequence", 0)

    def states(name: str, some: list[int]) -> np.ndarray:
        embedded = session.embed(some)[None]
        return session.forward(f"{name}_to_last_hidden_states", {0: len(some)}, embedded)[0]

    whole = states("prefill", prompt)
    last = tensor(np.array([len(whole) - 1], np.int32))
    chosen = session.vm["batch_select_last_hidden_states"](tensor(whole), last).numpy()
    rows = [
        chosen,
        states("decode", rest[:1]),
        states("batch_prefill", rest[1:3]),
        states("batch_decode", rest[3:4]),
        states("batch_verify", rest[4:]),
    ]
    found = session.vm["get_logits"](tensor(np.concatenate(rows)), session.parameters)
    return np.asarray(found.numpy())
