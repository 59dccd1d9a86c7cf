"""Fat binaries of CUDA: for which GPUs they hold code.

A header of 16 bytes (magic, version, its own size, size of what follows), then the entries, each a
header and its payload: PTX, which drivers compile for newer GPUs, or an ELF file (a cubin) for one
architecture. Source: fatbinary.h of the CUDA toolkit, and what nvcc 13.0 writes.
"""

import struct
from dataclasses import dataclass

from olmo.errors import OlmoError

_HEADER = struct.Struct("<IHHQ")
_MAGIC = 0xBA55ED50
_ENTRY = struct.Struct("<HHIQIIHHI")  # kind, version, size of this header, of the payload, …, arch
_KINDS = {1: "ptx", 2: "elf"}


@dataclass(frozen=True)
class FatbinEntry:
    """Code in a fat binary: `kind` is "ptx" or "elf", `arch` such as "sm_80"."""

    kind: str
    arch: str
    payload: bytes


def read_fatbin(data: bytes, name: str) -> list[FatbinEntry]:
    """Return the entries of a fat binary; `name` is what messages call it.

    Raises:
        OlmoError: it is none, or it is damaged.
    """
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[0] != _MAGIC:
        raise OlmoError(f"{name}: is not a fat binary of CUDA")
    _, _, header, size = _HEADER.unpack_from(data)
    offset, end = header, header + size
    found = []
    while offset < end:
        if end > len(data) or offset + _ENTRY.size > end:
            raise OlmoError(f"{name}: the fat binary is cut off")
        kind, _, header, size, _, _, _, _, arch = _ENTRY.unpack_from(data, offset)
        payload = data[offset + header : offset + header + size]
        if header < _ENTRY.size or len(payload) != size or kind not in _KINDS:
            raise OlmoError(f"{name}: the fat binary is damaged at byte {offset}")
        found.append(FatbinEntry(_KINDS[kind], f"sm_{arch}", payload))
        offset += header + size
    return found
