"""PyTorch checkpoint files (`torch.save`, the zip format), read without torch.

A file is a zip archive of a pickle, `data.pkl`, and the bytes of each storage, `data/KEY`, stored
without compression, so a tensor's bytes lie at an offset of the file. A pickle can name any function
for its reader to call. This reader knows the few names that tensors need, and each of those does
nothing but record its arguments; any other name ends the reading.
"""

import io
import os
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from olmo.checkpoints.source_tensor import SourceTensor
from olmo.errors import OlmoError

# Far more than the names and shapes of any model take.
MAX_PICKLE_BYTES = 64 << 20

_TRUNCATED_HINT = "the file is truncated or damaged: download or copy it again"
_RESAVE_HINT = "save it again with transformers: model.save_pretrained(…)"

# torch's storage classes: dtype name and bytes per element.
_STORAGES: Mapping[str, tuple[str, int]] = {
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "DoubleStorage": ("float64", 8),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}


# What zipfile raises where an archive is damaged, encrypted or packed in a way it does not know.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
)

# All that pickles of tensors are made of, whatever their protocol.
_OPCODES = (
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "GLOBAL", "STACK_GLOBAL", "BINPERSID", "REDUCE"),
    *("BUILD", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
)


class _Storage(NamedTuple):
    """What the pickle says of a storage."""

    key: Any
    dtype: str
    itemsize: int
    elements: Any


class _Tensor(NamedTuple):
    """What the pickle says of a tensor; checked by `_source_tensor`."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


def read_header(descriptor: int, file: str) -> dict[str, SourceTensor]:
    """Return the tensors of an open PyTorch file, by name; `file` names it in errors.

    Raises:
        OlmoError: not such a file, one that names anything but tensors, or tensors that do not fit
            their storages.
    """
    with os.fdopen(os.dup(descriptor), "rb") as opened:
        try:
            with zipfile.ZipFile(opened) as archive:
                entries = _entries(archive, file)
                pickled, prefix = _pickle_of(archive, entries, file)
        except _DAMAGE as error:
            is_old = os.pread(descriptor, 1, 0) == pickle.PROTO
            hint = _RESAVE_HINT if is_old else _TRUNCATED_HINT  # before torch 1.6: no zip file
            raise OlmoError(f"{file}: not a PyTorch file: {error}", hint) from None
    state = _load(pickled, file)
    if not isinstance(state, dict):
        raise OlmoError(f"{file}: holds {type(state).__name__}, not a table of tensors")
    tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise OlmoError(f"{file}: {name!r} is not a tensor", _RESAVE_HINT)
        where = f"{file}: tensor {name!r}"
        storage = _checked_storage(value.storage, where)
        start = _data_offset(descriptor, entries, f"{prefix}data/{storage.key}", storage, where)
        tensors[name] = _source_tensor(name, value, storage, file, descriptor, start)
    return tensors


def _entries(archive: zipfile.ZipFile, file: str) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in entries:
            raise OlmoError(f"{file}: holds {info.filename} twice")
        entries[info.filename] = info
    return entries


def _pickle_of(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], file: str
) -> tuple[bytes, str]:
    """Return the pickle and the name of the directory in the archive that it lies in."""
    found = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(found) != 1:
        raise OlmoError(f"{file}: not a PyTorch file: {len(found)} entries data.pkl", _RESAVE_HINT)
    prefix = found[0].removesuffix("data.pkl")
    order = f"{prefix}byteorder"
    for name in (order, found[0]):
        if name in entries and entries[name].file_size > MAX_PICKLE_BYTES:
            raise OlmoError(f"{file}: {name} is larger than {MAX_PICKLE_BYTES} bytes")
    if order in entries and archive.read(order) != b"little":
        raise OlmoError(f"{file}: was written by a big-endian machine", _RESAVE_HINT)
    return archive.read(found[0]), prefix


def _load(pickled: bytes, file: str) -> Any:
    try:
        return _Unpickler(pickled, file).load()
    except OlmoError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged pickle raises whatever it likes
        raise OlmoError(f"{file}: data.pkl is damaged: {error}", _TRUNCATED_HINT) from None


class _Unpickler(pickle._Unpickler):  # noqa: SLF001 - of the one in C no operation can be taken away
    """Reads a state dict; calls nothing but the recorders below.

    It takes time and memory as the pickle is long. Python's reader in C takes memory for as many
    objects as a number in the pickle says. Keys are strings: the hash of a tuple of the same tuple
    twice, that of another, and so on, takes ages.
    """

    def __init__(self, pickled: bytes, file: str) -> None:
        super().__init__(io.BytesIO(pickled))
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a global of the pickle."""
        known = _GLOBALS.get((module, name))
        if known is None:
            self.refuse(f"{module}.{name}")
        return known

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the record of a storage."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            self.refuse("something that is not a storage")
        _, kind, key, _, elements = pid
        if not isinstance(kind, str) or kind not in _STORAGES:
            self.refuse("a storage of unknown type")
        return _Storage(key, *_STORAGES[kind], elements)

    def refuse(self, what: str) -> NoReturn:
        """Raise the error for a pickle with something in it that weights do not need."""
        raise OlmoError(
            f"{self._file}: refused: its pickle names {what}, which no weights need", _RESAVE_HINT
        )


def _refused(name: str) -> Callable[[_Unpickler], None]:
    return lambda unpickler: unpickler.refuse(f"the operation {name}")


# As `Any`: what is known of its types is that it has some.
_PYTHON: Any = pickle._Unpickler  # noqa: SLF001 - as above


def _set_item(unpickler: Any) -> None:
    _check_keys(unpickler, unpickler.stack[-2:])
    _PYTHON.load_setitem(unpickler)


def _set_items(unpickler: Any) -> None:
    _check_keys(unpickler, unpickler.stack)
    _PYTHON.load_setitems(unpickler)


def _check_keys(unpickler: _Unpickler, items: Sequence[Any]) -> None:
    if not all(isinstance(key, str) for key in items[::2]):
        unpickler.refuse("a key that is no string")


def _build(unpickler: Any) -> None:
    if not isinstance(unpickler.stack[-2], OrderedDict):  # torch hangs versions on the state dict
        unpickler.refuse("attributes of something that is not the table")
    _PYTHON.load_build(unpickler)


def _dispatch() -> dict[int, Callable[[Any], None]]:
    """Return what the reader does for each operation of a pickle."""
    own = {"SETITEM": _set_item, "SETITEMS": _set_items, "BUILD": _build}
    known = {**_PYTHON.dispatch}
    return {
        ord(code): own.get(name, known[ord(code)]) if name in _OPCODES else _refused(name)
        for code, name in ((opcode.code, opcode.name) for opcode in pickletools.opcodes)
    }


_Unpickler.dispatch = _dispatch()


def _table() -> OrderedDict[str, Any]:
    return OrderedDict()


def _rebuild_tensor(
    storage: Any, offset: Any, size: Any, stride: Any, *_autograd: object
) -> _Tensor:
    return _Tensor(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_autograd: object) -> Any:
    return data


# Storage classes are only keys of `_STORAGES`: a string cannot be called or changed.
_GLOBALS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _table,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): name for name in _STORAGES},
}


def _checked_storage(storage: Any, where: str) -> _Storage:
    if (
        not isinstance(storage, _Storage)
        or not isinstance(storage.key, str)
        or not _is_size(storage.elements)
    ):
        raise OlmoError(f"{where}: has no storage", _RESAVE_HINT)
    return storage


def _data_offset(
    descriptor: int,
    entries: Mapping[str, zipfile.ZipInfo],
    name: str,
    storage: _Storage,
    where: str,
) -> int:
    """Return the offset in the file of a storage's first byte."""
    info = entries.get(name)
    if info is None:
        raise OlmoError(f"{where}: its storage {name} is not in the file", _TRUNCATED_HINT)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise OlmoError(f"{where}: its storage is compressed or encrypted", _RESAVE_HINT)
    if info.file_size != storage.elements * storage.itemsize:
        raise OlmoError(
            f"{where}: its storage has {info.file_size} bytes, but {storage.elements} elements "
            f"of {storage.dtype}",
            _TRUNCATED_HINT,
        )
    # Local file header: 30 bytes, of which the last 4 are the lengths of a name and of an extra.
    header = os.pread(descriptor, 30, info.header_offset)
    if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
        raise OlmoError(f"{where}: its storage has no header", _TRUNCATED_HINT)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = info.header_offset + 30 + lengths
    if start + info.file_size > os.fstat(descriptor).st_size:
        raise OlmoError(f"{where}: goes beyond the end of the file", _TRUNCATED_HINT)
    return start


def _source_tensor(
    name: str, tensor: _Tensor, storage: _Storage, file: str, descriptor: int, start: int
) -> SourceTensor:
    size, stride, offset = tensor.size, tensor.stride, tensor.offset
    if not (_are_sizes(size) and _are_sizes(stride) and len(size) == len(stride)):
        raise OlmoError(f"{file}: tensor {name!r}: bad shape or strides")
    last = offset if _is_size(offset) else -1
    last += sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if not _is_size(offset) or (0 not in size and last >= storage.elements):
        raise OlmoError(f"{file}: tensor {name!r} goes beyond its storage")
    return SourceTensor(
        name,
        storage.dtype,
        size,
        file,
        descriptor,
        start + offset * storage.itemsize,
        stride,
    )


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _are_sizes(value: Any) -> bool:
    return type(value) is tuple and all(map(_is_size, value))
