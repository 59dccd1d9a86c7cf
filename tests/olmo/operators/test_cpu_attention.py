"""The attention kernels against numpy, called as TVM's cache calls them."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from olmo.operators import cpu_attention
from olmo.operators.cpu_attention import NOTHING
from olmo.operators.cpu_cache_entries import PAGE_SIZE
from tests.olmo.operators.cpu_kernels import (
    HEADS,
    KV_HEADS,
    RNG,
    Arrays,
    D,
    build,
    ints,
    rows_of,
    tensor,
)

SCALE = D**-0.5


def attention(q: Arrays, k: Arrays, v: Arrays) -> tuple[Arrays, Arrays]:
    """One row's heads [HEADS, D] over keys [n, KV_HEADS, D]: result and base-2 logarithm."""
    group = HEADS // KV_HEADS
    k, v = (np.repeat(x.astype(np.float64), group, axis=1) for x in (k, v))
    scores = np.einsum("hd,nhd->hn", q.astype(np.float64), k) * SCALE
    largest = scores.max(axis=1, keepdims=True)
    weights = np.exp(scores - largest)
    total = weights.sum(axis=1, keepdims=True)
    lse = (largest + np.log(total))[:, 0] / np.log(2)
    return np.einsum("hn,nhd->hd", weights / total, v), lse


def check(found: tuple[Any, Any], expected: list[tuple[Arrays, Arrays]], dtype: str) -> None:
    tolerance = 1e-5 if dtype == "float32" else 2e-3
    for got, wanted in zip(found, zip(*expected, strict=True), strict=True):
        assert np.abs(got.numpy().astype(np.float64) - np.stack(wanted)).max() < tolerance


def outputs(rows: int, dtype: str) -> tuple[Any, Any]:
    return tensor(np.full((rows, HEADS, D), 9, dtype)), tensor(np.full((rows, HEADS), 9, "float32"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_ragged_prefill(dtype: str) -> None:
    lengths = (1, 40, 16)
    q, k, v = (rows_of(sum(lengths), n, dtype) for n in (HEADS, KV_HEADS, KV_HEADS))
    indptr = [0, 1, 41, 57]
    run = build(cpu_attention.ragged_prefill(HEADS, KV_HEADS, D, dtype))
    for causal in (1, 0):
        found = outputs(len(q), dtype)
        run(
            *(tensor(q), ints(indptr), tensor(k), tensor(v), ints(indptr)),
            *(ints(range(57)), ints([0, 0, 0]), *found, causal, 0, 1.0, 1e4, SCALE),
        )
        expected = []
        for begin, end in itertools.pairwise(indptr):
            for row in range(begin, end):
                seen = slice(begin, row + 1 if causal else end)
                expected.append(attention(q[row], k[seen], v[seen]))
        check(found, expected, dtype)


class Pages:
    """A paged cache of three sequences, their pages shuffled; the middle one has no keys."""

    lengths = (PAGE_SIZE + 5, 0, 3 * PAGE_SIZE)

    def __init__(self, dtype: str) -> None:
        self.keys = [rows_of(n, KV_HEADS, dtype) for n in self.lengths]
        self.values = [rows_of(n, KV_HEADS, dtype) for n in self.lengths]
        counts = [-(-n // PAGE_SIZE) for n in self.lengths]
        self.indptr = np.cumsum([0, *counts]).tolist()
        self.table = RNG.permutation(9)[: sum(counts)].tolist()
        self.pages = RNG.normal(size=(9, 2, KV_HEADS, PAGE_SIZE, D)).astype(dtype)
        for s, n in enumerate(self.lengths):
            for i in range(n):
                page = self.table[self.indptr[s] + i // PAGE_SIZE]
                self.pages[page, 0, :, i % PAGE_SIZE] = self.keys[s][i]
                self.pages[page, 1, :, i % PAGE_SIZE] = self.values[s][i]

    def arguments(self, sliding: tuple[Sequence[int], Sequence[int]] | None) -> list[Any]:
        last = [(n - 1) % PAGE_SIZE + 1 if n else 0 for n in self.lengths]
        info = ints(last) if sliding is None else ints([last, *sliding])
        return [tensor(self.pages), ints(self.indptr), ints(self.table), info]

    def seen(self, s: int, sliding: tuple[Sequence[int], Sequence[int]] | None) -> Arrays:
        """Return which keys of sequence s take part: the sink and what the window has not left."""
        everything = np.arange(self.lengths[s])
        if sliding is None:
            return everything
        start, sink = sliding[0][s], sliding[1][s]
        return everything[(everything < sink) | (everything >= start)]


NO_KEYS = (np.zeros((HEADS, D)), np.full(HEADS, NOTHING))
SLIDING = ([7, 0, 20], [4, 0, 3])


@pytest.mark.parametrize("sliding", [None, SLIDING], ids=["full", "sliding"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_paged_decode(dtype: str, sliding: tuple[list[int], list[int]] | None) -> None:
    pages, q, found = Pages(dtype), rows_of(3, HEADS, dtype), outputs(3, dtype)
    run = build(cpu_attention.paged_decode(HEADS, KV_HEADS, D, dtype, sliding=sliding is not None))
    rest = (ints([0] * 3), ints([0] * 3), *found, 0, 1.0, 1e4, SCALE)
    run(tensor(q), *pages.arguments(sliding), *rest)
    expected = [
        attention(q[s], pages.keys[s][seen], pages.values[s][seen]) if len(seen) else NO_KEYS
        for s, seen in ((s, pages.seen(s, sliding)) for s in range(3))
    ]
    check(found, expected, dtype)


@pytest.mark.parametrize("sliding", [None, SLIDING], ids=["full", "sliding"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_paged_prefill(dtype: str, sliding: tuple[list[int], list[int]] | None) -> None:
    pages, indptr = Pages(dtype), [0, 3, 5, 10]
    q = rows_of(10, HEADS, dtype)
    run = build(cpu_attention.paged_prefill(HEADS, KV_HEADS, D, dtype, sliding=sliding is not None))
    for causal in (0, 1):
        found = outputs(10, dtype)
        paged = pages.arguments(sliding)
        run(
            *(tensor(q), ints(indptr), *paged, ints([0] * 3), ints(range(10))),
            *(*found, causal, 0, 1.0, 1e4, SCALE),
        )
        expected = []
        for s, (begin, end) in enumerate(itertools.pairwise(indptr)):
            seen = pages.seen(s, sliding)
            for row in range(begin, end):
                own = seen[: len(seen) - (end - row - 1)] if causal and len(seen) else seen
                one = (
                    attention(q[row], pages.keys[s][own], pages.values[s][own])
                    if len(own)
                    else NO_KEYS
                )
                expected.append(one)
        check(found, expected, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_merge_joins_two_parts(dtype: str) -> None:
    q, k, v = rows_of(5, HEADS, dtype), rows_of(30, KV_HEADS, dtype), rows_of(30, KV_HEADS, dtype)
    parts = [[attention(row, k[part], v[part]) for row in q] for part in (slice(11), slice(11, 30))]
    parts[1][4] = NO_KEYS
    joined = [
        tensor(np.stack(x).astype(t))
        for x, t in zip(zip(*parts[0], strict=True), (dtype, "float32"), strict=True)
    ]
    other = [
        tensor(np.stack(x).astype(t))
        for x, t in zip(zip(*parts[1], strict=True), (dtype, "float32"), strict=True)
    ]
    build(cpu_attention.merge(D, dtype))(*joined, *other)
    expected = [attention(row, k, v) for row in q[:4]]
    expected.append(parts[0][4])
    check((joined[0], joined[1]), expected, dtype)
