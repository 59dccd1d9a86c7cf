"""The compiled kernels against numpy, bit by bit."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo.codecs.codec import CODECS, NARROW, Codec, Dtype, file_name
from olmo.codecs.floats import F32
from olmo.codecs.kernels import Codecs, Kernels, codecs, host_of_kernels
from olmo.codecs.numpy_codec import NumpyCodecs
from olmo.errors import OlmoError
from olmo.verification.emulator import place, read_machine, run_emulated
from tests.olmo.encoded import encode
from tests.olmo.kernel_digest import digest
from tests.olmo.matrices import SCALES, matrices

ROOT = Path(__file__).resolve().parents[3]

# Beyond float16, for codecs of other dtypes.
LARGE = [1e6, 1e30, 1e38]


@pytest.fixture(scope="module")
def compiled(kernels: Path) -> Codecs:
    found = codecs(kernels)
    assert isinstance(found, Kernels)
    return found


def results(made: Codecs, codec: Codec, w: F32) -> tuple[bytes, ...]:
    out, scales, errors = encode(made, codec, w)
    arrays = (out, scales, errors.sums, errors.largest, errors.magnitudes)
    return tuple(b"" if a is None else a.tobytes() for a in arrays)


@settings(max_examples=120, deadline=None)
@given(w=matrices())
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_kernels_equal_numpy(compiled: Codecs, codec: Codec, w: F32) -> None:
    assert results(compiled, codec, w) == results(NumpyCodecs(), codec, w)


@settings(max_examples=40, deadline=None)
@given(w=matrices([*SCALES, *LARGE]))
@pytest.mark.parametrize(
    "codec", [c for c in CODECS if c.dtype != "float16"], ids=lambda codec: codec.name
)
def test_kernels_equal_numpy_beyond_float16(compiled: Codecs, codec: Codec, w: F32) -> None:
    assert results(compiled, codec, w) == results(NumpyCodecs(), codec, w)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_every_width(compiled: Codecs, codec: Codec) -> None:
    rng = np.random.default_rng(7)
    for k in range(1, 100):
        w = (rng.standard_normal((3, k)) * 0.02).astype(np.float32)
        assert results(compiled, codec, w) == results(NumpyCodecs(), codec, w), k


@pytest.mark.parametrize("codec", [c for c in CODECS if not c.bits], ids=lambda codec: codec.name)
def test_casts_of_every_float16_and_the_ties_between(compiled: Codecs, codec: Codec) -> None:
    finite = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    ties = (finite[:-1] + finite[1:]) / np.float32(2)
    beside = [np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(1e9))]
    x = np.concatenate([finite, ties, *beside])
    w = np.stack([x, -x]).astype(np.float32)
    assert results(compiled, codec, w) == results(NumpyCodecs(), codec, w)


def test_float32_at_the_end_of_bfloat16_is_truncated(compiled: Codecs) -> None:
    codec = Codec("float32", "bfloat16")
    top = np.float32(3.4028235e38)
    w = np.array([[top, -top, 3.3895314e38, 3.38e38]], np.float32)
    out, _, _ = encode(compiled, codec, w)
    assert [hex(bits) for bits in out[0]][:3] == ["0x7f7f", "0xff7f", "0x7f7f"]
    assert results(compiled, codec, w) == results(NumpyCodecs(), codec, w)


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_magnitudes_tell_what_is_no_number(compiled: Codecs, codec: Codec, value: float) -> None:
    for column in (0, 39, 64, 69):
        w = np.ones((2, 70), np.float32)
        w[1, column] = value
        _, _, errors = encode(compiled, codec, w)
        assert errors.magnitudes[0] == np.float32(1).view(np.int32)
        assert not math.isfinite(errors.magnitude)


@settings(deadline=None)
@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=40))
@pytest.mark.parametrize("dtype", NARROW)
def test_widening(compiled: Codecs, dtype: Dtype, bits: list[int]) -> None:
    source = np.array(bits, np.uint16)
    found, expected = np.empty(len(bits), np.float32), np.empty(len(bits), np.float32)
    compiled.widen(dtype, source, found)
    NumpyCodecs().widen(dtype, source, expected)
    nan = np.isnan(expected)
    assert np.array_equal(np.isnan(found), nan)
    assert found[~nan].tobytes() == expected[~nan].tobytes()


def test_many_bits_in_one_number(compiled: Codecs) -> None:
    assert digest(compiled) == digest(NumpyCodecs())


@pytest.mark.skipif(read_machine(place("aarch64")) is None, reason="there is no emulated machine")
def test_the_same_bytes_on_another_architecture(tmp_path: Path, kernels: Path) -> None:
    program = str(ROOT / "tests" / "olmo" / "kernel_digest.py")
    library = str(kernels / file_name("linux-aarch64"))
    run_emulated(place("aarch64"), [program, library, "digest"], ROOT, tmp_path)
    assert (tmp_path / "digest").read_text() == digest(NumpyCodecs())


@pytest.mark.parametrize(
    ("system", "machine", "host"),
    [
        ("linux", "aarch64", "linux-aarch64"),
        ("linux", "riscv64", None),
        ("darwin", "arm64", None),
        ("win32", "AMD64", None),
    ],
)
def test_the_host_that_a_machine_is(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, host: str | None
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert host_of_kernels() == host


def test_arrays_of_another_form_are_refused(compiled: Codecs) -> None:
    w = np.ones((2, 64), np.float32)
    codec = Codec("float16", "float16")
    with pytest.raises(ValueError, match="where"):
        compiled.encode(codec, w, np.empty((2, 63), np.float16), None)
    with pytest.raises(ValueError, match="where"):
        compiled.encode(codec, w.T, np.empty((64, 2), np.float16), None)
    with pytest.raises(ValueError, match="where"):
        compiled.widen("float16", np.ones(3, np.uint16), np.ones(2, np.float32))


def test_a_codec_without_a_kernel_is_numpys(compiled: Codecs) -> None:
    codec, w = Codec("float32", "float32", 3, 40), np.linspace(-1, 1, 240, dtype=np.float32)
    assert codec not in CODECS
    w = w.reshape(3, 80)
    assert results(compiled, codec, w) == results(NumpyCodecs(), codec, w)


def test_without_a_library_numpy_converts(tmp_path: Path) -> None:
    assert isinstance(codecs(None), NumpyCodecs)
    assert isinstance(codecs(tmp_path), NumpyCodecs)


def test_a_file_that_is_no_library(tmp_path: Path, kernels: Path) -> None:
    name = file_name(str(host_of_kernels()))
    assert (kernels / name).exists()
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(OlmoError, match="not a library of conversion kernels"):
        codecs(tmp_path)
