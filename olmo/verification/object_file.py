"""Object files and shared libraries of every platform, as what a linker sees of them.

ELF, Mach-O, COFF and PE are read by `lief`.
"""

from dataclasses import dataclass, field
from typing import Any

import lief

from olmo.errors import OlmoError

lief.logging.disable()  # what is wrong with a file is said here

_ARCHITECTURES = {
    "AARCH64": "aarch64",  # ELF
    "X86_64": "x86_64",  # ELF and Mach-O
    "ARM64": "aarch64",  # Mach-O, COFF and PE
    "AMD64": "x86_64",  # COFF and PE
}


@dataclass(frozen=True)
class ObjectFile:
    """One object file or shared library.

    `format` is "ELF", "Mach-O", "COFF" or "PE", `architecture` "x86_64", "aarch64" or what the
    file calls it. `shared` is whether it is loaded, `needed` then the libraries loaded with it.
    `defined` and `undefined` are names of symbols as C spells them, in order.
    """

    name: str
    format: str
    architecture: str
    shared: bool
    defined: tuple[str, ...]
    undefined: tuple[str, ...]
    needed: tuple[str, ...]
    _binary: Any = field(repr=False, compare=False)

    def content(self, symbol: str) -> bytes:
        """Return what lies at a defined symbol, up to the end of its section.

        Raises:
            OlmoError: the file defines no such symbol.
        """
        found: bytes | None = _READERS[self.format].content(self._binary, symbol)
        if found is None:
            raise OlmoError(f"{self.name}: defines no symbol {symbol}")
        return found


def read_object(data: bytes, name: str) -> ObjectFile:
    """Parse an object file; `name` is what messages call it.

    Raises:
        OlmoError: none of the formats.
    """
    binary = lief.parse(data)
    if isinstance(binary, lief.MachO.FatBinary):
        binary = binary.at(0)
    for kind, reader in _READERS.items():
        if isinstance(binary, reader.type):
            found: ObjectFile = reader.read(binary, name, kind)
            return found
    raise OlmoError(f"{name}: is no object file of a known format")


class _Elf:
    type = lief.ELF.Binary

    @staticmethod
    def read(binary: Any, name: str, kind: str) -> ObjectFile:
        shared = binary.header.file_type == lief.ELF.Header.FILE_TYPE.DYN
        symbols = [
            symbol
            for symbol in (binary.dynamic_symbols if shared else binary.symtab_symbols)
            if symbol.name and symbol.binding != lief.ELF.Symbol.BINDING.LOCAL
        ]
        return ObjectFile(
            name,
            kind,
            _architecture(binary.header.machine_type),
            shared,
            tuple(sorted(_text(s.name) for s in symbols if s.shndx)),
            tuple(sorted(_text(s.name) for s in symbols if not s.shndx)),
            tuple(map(_text, binary.libraries)),
            binary,
        )

    @staticmethod
    def content(binary: Any, symbol: str) -> bytes | None:
        for found in binary.symbols:
            if found.name == symbol and found.shndx:
                if binary.header.file_type == lief.ELF.Header.FILE_TYPE.REL:
                    return bytes(found.section.content)[found.value :]
                section = binary.section_from_virtual_address(found.value)
                return bytes(section.content)[found.value - section.virtual_address :]
        return None


# In the type of a symbol of Mach-O (mach-o/nlist.h): the mask for its kind, defined in a section,
# undefined, and visible outside of the file.
_N_TYPE, _N_SECT, _N_UNDF, _N_EXT = 0x0E, 0x0E, 0x00, 0x01


class _MachO:
    type = lief.MachO.Binary

    @staticmethod
    def read(binary: Any, name: str, kind: str) -> ObjectFile:
        symbols = [symbol for symbol in binary.symbols if symbol.raw_type & _N_EXT]

        def names(of: int) -> tuple[str, ...]:
            chosen = (s for s in symbols if s.raw_type & _N_TYPE == of)
            return tuple(sorted(_text(s.name).removeprefix("_") for s in chosen))

        return ObjectFile(
            name,
            kind,
            _architecture(binary.header.cpu_type),
            binary.header.file_type == lief.MachO.Header.FILE_TYPE.DYLIB,
            names(_N_SECT),
            names(_N_UNDF),
            tuple(
                _text(library.name)
                for library in binary.libraries
                if library.command != lief.MachO.LoadCommand.TYPE.ID_DYLIB
            ),
            binary,
        )

    @staticmethod
    def content(binary: Any, symbol: str) -> bytes | None:
        for found in binary.symbols:
            if found.name == f"_{symbol}" and found.raw_type & _N_TYPE == _N_SECT:
                for section in binary.sections:
                    if 0 <= found.value - section.virtual_address < section.size:
                        return bytes(section.content)[found.value - section.virtual_address :]
        return None


class _Coff:
    type = lief.COFF.Binary

    @staticmethod
    def read(binary: Any, name: str, kind: str) -> ObjectFile:
        external = [s for s in binary.symbols if s.is_external or s.is_undefined]
        defined = [s for s in external if s.section_idx > 0]
        return ObjectFile(
            name,
            kind,
            _architecture(binary.header.machine),
            shared=False,
            defined=tuple(sorted(_text(s.name) for s in defined)),
            undefined=tuple(sorted(_text(s.name) for s in external if s.section_idx <= 0)),
            needed=(),
            _binary=binary,
        )

    @staticmethod
    def content(binary: Any, symbol: str) -> bytes | None:
        for found in binary.symbols:
            if found.name == symbol and found.section_idx > 0:
                return bytes(found.section.content)[found.value :]
        return None


class _Pe:
    type = lief.PE.Binary

    @staticmethod
    def read(binary: Any, name: str, kind: str) -> ObjectFile:
        exports = binary.get_export()
        return ObjectFile(
            name,
            kind,
            _architecture(binary.header.machine),
            shared=True,
            defined=tuple(sorted(_text(e.name) for e in exports.entries)) if exports else (),
            undefined=tuple(sorted(_text(e.name) for i in binary.imports for e in i.entries)),
            needed=tuple(_text(i.name) for i in binary.imports),
            _binary=binary,
        )

    @staticmethod
    def content(binary: Any, symbol: str) -> bytes | None:
        for found in binary.get_export().entries if binary.has_exports else ():
            if found.name == symbol:
                section = binary.section_from_rva(found.address)
                return bytes(section.content)[found.address - section.virtual_address :]
        return None


_READERS: dict[str, Any] = {"ELF": _Elf, "Mach-O": _MachO, "COFF": _Coff, "PE": _Pe}


def _architecture(machine: Any) -> str:
    name = str(machine).rpartition(".")[2]
    return _ARCHITECTURES.get(name, name)


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
