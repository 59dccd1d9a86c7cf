"""The compiled kernels of conversion, for a program that does not import tvm.

`olmo.codecs.kernel_library` makes the library; `olmo.codecs.codec_kernels` says what its functions do. They are
called through ctypes: nothing but Python is needed to load them, and other threads run meanwhile.
"""

import ctypes
import platform
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from olmo.codecs.codec import CODECS, NARROW, Codec, Dtype, file_name, widening
from olmo.codecs.floats import F32
from olmo.codecs.numpy_codec import STORED, NumpyCodecs
from olmo.codecs.row_errors import RowErrors
from olmo.errors import OlmoError

# What a processor of the level x86-64-v3 has beyond the first ones, as Linux names it.
_X86_64_V3 = frozenset(("avx", "avx2", "bmi1", "bmi2", "f16c", "abm", "movbe"))


class Codecs(Protocol):
    """All codecs, by whatever means; see `NumpyCodecs`, which defines the results."""

    def widen(self, dtype: Dtype, source: NDArray[np.uint16], out: F32) -> None:
        """Write float16 or bfloat16 bits as float32 to `out`, of the same size."""

    def encode(
        self, codec: Codec, w: F32, out: NDArray[Any], scales: NDArray[Any] | None
    ) -> RowErrors:
        """Write the rows of w [N, K] to `out`, and the scales of groups to `scales`.

        Of a codec with one scale for the whole matrix, `scales` is that scale, and is read.
        """


class Kernels:
    """The kernels of one library. Threads may share it.

    Raises:
        OlmoError: not a library of kernels.
    """

    def __init__(self, library: Path) -> None:
        try:
            loaded = ctypes.CDLL(str(library))
            names = [codec.name for codec in CODECS] + [widening(dtype) for dtype in NARROW]
            self._functions = {name: getattr(loaded, name) for name in names}
        except (OSError, AttributeError) as error:
            raise OlmoError(f"{library}: not a library of conversion kernels: {error}") from None
        for function in self._functions.values():
            function.restype = None

    def widen(self, dtype: Dtype, source: NDArray[np.uint16], out: F32) -> None:
        """Write float16 or bfloat16 bits as float32 to `out`, of the same size."""
        _require(source, np.dtype(np.uint16), source.shape)
        _require(out, np.dtype(np.float32), source.shape)
        self._functions[widening(dtype)](
            _pointer(source), _pointer(out), ctypes.c_int64(source.size)
        )

    def encode(
        self, codec: Codec, w: F32, out: NDArray[Any], scales: NDArray[Any] | None
    ) -> RowErrors:
        """Write the rows of w [N, K] to `out`, and the scales of groups to `scales`.

        A codec that there is no kernel of yet is numpy's, which gives the same bits.
        """
        if codec.name not in self._functions:
            return NumpyCodecs().encode(codec, w, out, scales)
        rows, columns = w.shape
        groups = codec.groups(columns)
        _require(w, np.dtype(np.float32), w.shape)
        if codec.bits:
            words = groups * codec.words_per_group
            kept = np.empty((rows, groups), STORED[codec.stored]) if scales is None else scales
            _require(out, np.dtype(np.uint32), (rows, words))
            _require(kept, STORED[codec.stored], (rows, groups))
        else:
            kept = out if scales is None else scales  # not used but for the one scale of a matrix
            _require(out, STORED[codec.stored], w.shape)
            if codec.scale:
                _require(kept, np.dtype(np.float32), (1,))
        errors = RowErrors.empty(rows)
        scratch = np.empty(2 * groups, np.float32)
        arrays = (w, out, kept, scratch, errors.sums, errors.largest, errors.magnitudes)
        self._functions[codec.name](
            *map(_pointer, arrays), ctypes.c_int64(rows), ctypes.c_int64(columns)
        )
        return errors


def codecs(libraries: Path | None) -> Codecs:
    """Return the fastest codecs for this machine: kernels from a directory, else numpy's.

    The directory holds `kernels-{host}.so` for some hosts.

    Raises:
        OlmoError: a file there is not what it should be.
    """
    host = host_of_kernels()
    if libraries is None or host is None or not (libraries / file_name(host)).exists():
        return NumpyCodecs()
    return Kernels(libraries / file_name(host))


def host_of_kernels() -> str | None:
    """Return the kind of host that this machine is, None if kernels are made for none such."""
    machine = platform.machine() if sys.platform == "linux" else ""
    if machine == "aarch64":  # what the kernels use, every such processor has
        return "linux-aarch64"
    return "linux-x86_64" if machine == "x86_64" and _cpu_features() >= _X86_64_V3 else None


def _cpu_features() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    flags = [line.partition(":")[2] for line in text.splitlines() if line.startswith("flags")]
    return frozenset(flags[0].split()) if flags else frozenset()


def _require(array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(f"{array.dtype} {array.shape} where {dtype} {shape} is needed")


def _pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
