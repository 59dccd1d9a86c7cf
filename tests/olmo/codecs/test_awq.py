import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from olmo.codecs.awq import dequantize, pack, unpack

# AutoAWQ: nibble n of a word, the lowest first, holds this one of its eight elements.
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


@given(arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 4).map(lambda n: 8 * n)), elements=st.integers(0, 15)))  # fmt: skip
def test_words_are_interleaved(values: np.ndarray) -> None:
    words = pack(values)
    assert words.dtype == np.uint32
    assert words.shape == (len(values), values.shape[1] // 8)
    assert np.array_equal(unpack(words), values)
    for row, column in np.ndindex(words.shape):
        nibbles = [int(words[row, column]) >> 4 * n & 15 for n in range(8)]
        assert nibbles == [values[row, 8 * column + element] for element in ORDER]


def test_a_word_spelt_out() -> None:
    assert pack(np.arange(8, dtype=np.uint8)[None]) == 0x75316420


@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 3), st.sampled_from([8, 128]))
def test_weights_are_differences_times_scales(
    seed: int, groups: int, words: int, group_size: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 16, (groups * group_size, 8 * words), np.uint8)
    zeros = rng.integers(0, 16, (groups, 8 * words), np.uint8)
    scales = rng.normal(0, 0.01, (groups, 8 * words)).astype(np.float16)
    found = dequantize(pack(values), pack(zeros), scales)
    assert found.dtype == np.float16
    assert found.shape == (8 * words, groups * group_size)
    o, i = rng.integers(8 * words), rng.integers(groups * group_size)
    difference = int(values[i, o]) - int(zeros[i // group_size, o])
    exact = np.float64(scales[i // group_size, o]) * difference
    assert found[o, i] == np.float16(exact)
