"""Fat binaries, as nvcc writes them (two-kernels.fatbin: nvcc 13.0, two kernels of one line)."""

import struct
from pathlib import Path

import pytest

from olmo.errors import OlmoError
from olmo.verification.fatbin import read_fatbin

GOLDEN = Path(__file__).parents[2] / "golden" / "two-kernels.fatbin"


def test_entries() -> None:
    entries = read_fatbin(GOLDEN.read_bytes(), "it")
    assert [(entry.kind, entry.arch) for entry in entries] == [
        ("elf", "sm_80"),
        ("elf", "sm_90"),
        ("ptx", "sm_80"),
    ]
    assert all(e.payload[:4] == b"\x7fELF" for e in entries if e.kind == "elf")
    assert all(name in entries[0].payload for name in (b"scale", b"shift"))


@pytest.mark.parametrize("data", [b"", b"\x50\xed\x55\xba", b'extern "C" __global__ void f() {}'])
def test_what_is_none(data: bytes) -> None:
    with pytest.raises(OlmoError, match="it: is not a fat binary of CUDA"):
        read_fatbin(data, "it")


@pytest.mark.parametrize("size", [16, 40, 100, 5000])
def test_what_is_cut_off(size: int) -> None:
    with pytest.raises(OlmoError, match="it: the fat binary is cut off"):
        read_fatbin(GOLDEN.read_bytes()[:size], "it")


@pytest.mark.parametrize(("offset", "value"), [(16, 9), (20, 0), (24, 1 << 30)])
def test_what_is_damaged(offset: int, value: int) -> None:
    data = bytearray(GOLDEN.read_bytes())
    struct.pack_into("<H" if offset == 16 else "<I", data, offset, value)
    with pytest.raises(OlmoError, match="it: the fat binary is damaged at byte 16"):
        read_fatbin(bytes(data), "it")
