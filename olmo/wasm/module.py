"""What a WebAssembly module asks for and offers, read from its binary form.

Source: webassembly.github.io/spec/core/binary/modules.html.
"""

from collections.abc import Iterator

from olmo.errors import OlmoError

_MAGIC = b"\0asm\1\0\0\0"
_IMPORT, _EXPORT = 2, 7
_FUNCTION, _TABLE, _MEMORY, _GLOBAL = range(4)


def imports(data: bytes) -> frozenset[str]:
    """Return the names of everything the module imports, as "module.field".

    Raises:
        OlmoError: not a module.
    """
    return frozenset(_each(data, _IMPORT))


def exports(data: bytes) -> frozenset[str]:
    """Return the names of everything the module exports.

    Raises:
        OlmoError: not a module.
    """
    return frozenset(_each(data, _EXPORT))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        found = self._data[self.at : self.at + size]
        if len(found) != size:
            raise OlmoError("not a WebAssembly module: it ends too early")
        self.at += size
        return found

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """Read an unsigned LEB128 integer."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def name(self) -> str:
        return self.take(self.number()).decode()

    def limits(self) -> None:
        has_maximum = self.byte() & 1
        self.number()
        if has_maximum:
            self.number()


def _each(data: bytes, wanted: int) -> Iterator[str]:
    if not data.startswith(_MAGIC):
        raise OlmoError("not a WebAssembly module of version 1")
    reader = _Reader(data)
    reader.take(len(_MAGIC))
    while reader.at < len(data):
        section, size = reader.byte(), reader.number()
        end = reader.at + size
        if section == wanted:
            for _ in range(reader.number()):
                yield _import(reader) if wanted == _IMPORT else _export(reader)
        reader.at = end


def _import(reader: _Reader) -> str:
    name = f"{reader.name()}.{reader.name()}"
    kind = reader.byte()
    if kind == _FUNCTION:
        reader.number()
    elif kind == _TABLE:
        reader.byte()
        reader.limits()
    elif kind == _MEMORY:
        reader.limits()
    elif kind == _GLOBAL:
        reader.take(2)
    else:
        raise OlmoError(f"not a WebAssembly module: an import {name} of the kind {kind}")
    return name


def _export(reader: _Reader) -> str:
    name = reader.name()
    reader.byte()
    reader.number()
    return name
