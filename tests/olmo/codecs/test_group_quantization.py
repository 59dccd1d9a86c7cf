import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from olmo.codecs.floats import F32
from olmo.codecs.group_quantization import dequantize, quantize
from olmo.quantization import Quantization
from olmo.quantizations import QUANTIZATIONS

GROUP = [q for q in QUANTIZATIONS.values() if q.kind == "group"]
DTYPES = {"float16": np.float16, "float32": np.float32, "bfloat16": bfloat16}


def by_definition(w: F32, q: Quantization, *, transposed: bool) -> tuple[list[list[int]], F32]:
    """Quantize element by element in the dtype's own numpy arithmetic."""
    t = DTYPES[q.model_dtype]
    f = np.float32 if q.model_dtype == "bfloat16" else t
    x = w.astype(t)
    fields: list[list[int]] = []
    scales = []
    for row in x:
        fields.append([])
        for start in range(0, len(row), q.group_size):
            group = row[start : start + q.group_size]
            scale = np.abs(group).astype(f).max() / f(q.max_int)
            scales.append(scale.astype(t))
            divisor = scale if transposed else scale.astype(t).astype(f)
            for element in group:
                value = np.rint(element.astype(f) / divisor + f(q.max_int))
                fields[-1].append(0 if np.isnan(value) else int(min(max(value, 0), 2 * q.max_int)))
    return fields, np.array(scales).reshape(len(w), -1)


def unpacked(words: NDArray[np.uint32], q: Quantization, k: int) -> list[list[int]]:
    return [
        [int(row[i // q.per_word]) >> (i % q.per_word * q.bits) & (2**q.bits - 1) for i in range(k)]
        for row in words
    ]


@st.composite
def matrices(draw: st.DrawFn) -> F32:
    n, k = draw(st.integers(1, 4)), draw(st.integers(1, 100))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    scale = draw(st.sampled_from([1e-8, 1e-6, 1e-4, 0.02, 1.0, 3000.0]))
    w = (rng.standard_normal((n, k)) * scale).astype(np.float32)
    if draw(st.booleans()):
        w = np.round(w / scale * 4) * np.float32(scale / 4)  # ties
    if draw(st.booleans()):
        w[rng.random((n, k)) < 0.5] = 0
    if draw(st.booleans()):
        w[0] = 0
    return w.astype(np.float32)


@pytest.mark.parametrize("q", GROUP, ids=lambda q: q.name)
@settings(max_examples=30, deadline=None)
@given(w=matrices())
def test_quantize_is_the_definition(q: Quantization, w: F32) -> None:
    transposed = q.layout == "KN"
    before = w.copy()
    with np.errstate(all="ignore"):
        fields, scales = by_definition(w, q, transposed=transposed)
    words, scale = quantize(w, q, transposed=transposed)
    assert np.array_equal(w, before)
    assert scale.dtype == DTYPES[q.model_dtype]
    assert words.shape == (w.shape[0], q.words(w.shape[1]))
    assert scale.tobytes() == scales.tobytes()
    assert unpacked(words, q, w.shape[1]) == fields


@pytest.mark.parametrize("q", GROUP, ids=lambda q: q.name)
@settings(max_examples=20, deadline=None)
@given(w=matrices())
def test_dequantize_is_the_definition(q: Quantization, w: F32) -> None:
    k = w.shape[1]
    words, scale = quantize(w, q)
    fields = np.array(unpacked(words, q, k)).astype(np.float32) - q.max_int
    scales = np.repeat(scale.astype(np.float32), q.group_size, axis=1)[:, :k]
    assert np.array_equal(dequantize(words, scale, q, k), fields * scales)


def test_all_zero_group_is_zero_words_and_zero_scale() -> None:
    q = QUANTIZATIONS["q4f16_1"]
    words, scale = quantize(np.zeros((2, 64), np.float32), q)
    assert not words.any()
    assert not scale.any()
    assert not dequantize(words, scale, q, 64).any()


def test_positions_past_k_are_zero() -> None:
    q = QUANTIZATIONS["q4f16_1"]
    words, _ = quantize(np.ones((1, 33), np.float32), q)
    assert [hex(word) for word in words[0]] == ["0xeeeeeeee"] * 4 + ["0xe", "0x0", "0x0", "0x0"]


def test_three_bit_words_leave_their_top_bits_zero() -> None:
    q = QUANTIZATIONS["q3f16_1"]
    words, _ = quantize(np.ones((1, 40), np.float32), q)
    assert [hex(word) for word in words[0]] == [hex(0o6666666666)] * 4
