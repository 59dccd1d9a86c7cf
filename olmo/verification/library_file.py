"""What is inside a library file: its objects, and the modules that TVM embedded in them.

TVM writes the modules that are not machine code as data of the symbol `__tvm_ffi__library_bin`
(tvm-ffi, src/ffi/extra/library_module.cc): a size, the import tree as two vectors, and for each
module its kind and its bytes. Numbers are little-endian, vectors and texts begin with their length
in 64 bits. A device module (src/runtime/metadata.h, and save_to_bytes of each device) is a format,
the kernels by name with the types of their arguments and their launch parameters, and the code.
"""

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from olmo.errors import OlmoError
from olmo.verification.object_file import ObjectFile, read_object

T = TypeVar("T")

LIBRARY_BIN = "__tvm_ffi__library_bin"
EXECUTABLE = "relax.VMExecutable"  # kind of the module that holds the virtual machine's code
HOST = "_lib"  # kind of the machine code around the data


@dataclass(frozen=True)
class DeviceModule:
    """Code for a device: its format ("cl", "metal", "fatbin", …), kernels, and code by name.

    Code that is one text for all kernels has the name "".
    """

    kind: str
    format: str
    kernels: tuple[str, ...]
    code: dict[str, bytes]


@dataclass(frozen=True)
class LibraryFile:
    """A library: its objects (one, if it is shared), `executable` the virtual machine's code."""

    objects: tuple[ObjectFile, ...]
    executable: bytes
    devices: tuple[DeviceModule, ...]


def read_library(path: Path, prefix: str = "") -> LibraryFile:
    """Read a shared library, or a .tar of objects whose symbols begin with `prefix`.

    Raises:
        OlmoError: the file is damaged, or not a library of TVM's.
    """
    objects = tuple(read_object(data, name) for name, data in _members(path))
    symbol = prefix + LIBRARY_BIN
    holders = [found for found in objects if symbol in found.defined]
    if len(holders) != 1:
        raise OlmoError(f"{path}: {len(holders)} objects define the symbol {symbol}, not one")
    try:
        modules = _modules(_Reader(holders[0].content(symbol)))
        devices = tuple(
            _device(kind, _Reader(data)) for kind, data in modules if kind not in (EXECUTABLE, HOST)
        )
    except (MalformedError, UnicodeDecodeError) as error:
        raise OlmoError(f"{path}: what {symbol} holds is malformed: {error}") from None
    executables = [data for kind, data in modules if kind == EXECUTABLE]
    if len(executables) != 1:
        raise OlmoError(f"{path}: {len(executables)} modules are the virtual machine's, not one")
    return LibraryFile(objects, executables[0], devices)


def _members(path: Path) -> list[tuple[str, bytes]]:
    if path.suffix != ".tar":
        return [(path.name, path.read_bytes())]
    found = []
    try:
        with tarfile.open(path) as file:
            for member in file:
                data = file.extractfile(member) if member.isreg() else None
                if data is None:
                    raise OlmoError(f"{path}: {member.name} is not a file")
                found.append((member.name, data.read()))
    except tarfile.TarError as error:
        raise OlmoError(f"{path}: not a tar file: {error}") from None
    return found


class MalformedError(ValueError):
    """Data that is not what TVM writes."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

    def take(self, size: int) -> bytes:
        if size > self.rest():
            raise MalformedError(f"it ends {size - self.rest()} bytes early")
        return self._stream.read(size)

    def number(self, size: int = 8) -> int:
        return int.from_bytes(self.take(size), "little")

    def sized(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        return self.sized().decode()

    def vector(self, size: int) -> list[bytes]:
        return [self.take(size) for _ in range(self._count(size))]

    def texts(self) -> list[str]:
        return [self.text() for _ in range(self._count(8))]

    def pairs(self, value: Callable[[], T]) -> dict[str, T]:
        return {self.text(): value() for _ in range(self._count(8))}

    def rest(self) -> int:
        return len(self._stream.getbuffer()) - self._stream.tell()

    def _count(self, size: int) -> int:
        """Read a length, refusing one that the data cannot have before anything is made of it."""
        count = self.number()
        if count * size > self.rest():
            raise MalformedError(f"a length of {count} is past its end")
        return count


def _modules(reader: _Reader) -> list[tuple[str, bytes]]:
    data = _Reader(reader.sized())
    rows = data.vector(8)
    data.vector(8)  # which module imports which
    found = []
    for _ in range(max(0, len(rows) - 1)):
        kind = data.text()
        found.append((kind, b"" if kind == HOST else data.sized()))
    if data.rest():
        raise MalformedError(f"{data.rest()} bytes follow the last module")
    return found


def _device(kind: str, data: _Reader) -> DeviceModule:
    form = data.text()
    kernels = data.pairs(lambda: _kernel(data))
    code = {"": data.sized()} if kind != "metal" else data.pairs(data.sized)
    if data.rest():
        raise MalformedError(f"{data.rest()} bytes follow the code for {kind}")
    return DeviceModule(kind, form, tuple(sorted(kernels)), code)


def _kernel(data: _Reader) -> None:
    data.text()  # its name again
    data.vector(4)  # types of the arguments, a DLDataType each
    data.texts()  # launch parameters
    data.vector(4)  # what else there is to know of each argument
