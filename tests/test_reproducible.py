"""The same inputs give the same bytes: whatever the place, the user's settings and the order."""

import os
import stat
from pathlib import Path

from tests.clone import clone

MATRIX = """
[models.m]
source = "local"
path = "checkpoint"
conv_template = "LM"

[[release]]
models = ["m"]
quantizations = ["q0f32", "q4f16_1"]
windows = [256]
targets = ["linux-x86_64-cpu"]
"""


def test_two_builds_are_bit_identical(tmp_path: Path) -> None:
    first = clone(
        tmp_path / "one",
        tmp_path / "store-one",
        MATRIX,
        {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C", "USER": "a"},
    )
    second = clone(
        tmp_path / "elsewhere" / "and deeper",
        tmp_path / "store-two",
        MATRIX,
        {"PYTHONHASHSEED": "2", "TZ": "Asia/Kathmandu", "HOME": str(tmp_path), "CFLAGS": "-O0"},
    )
    built = first.build("-n", "2", "-P", "thread")
    previous = os.umask(0o077)
    try:
        assert second.build("-n", "2") == built
    finally:
        os.umask(previous)
    assert first.dist() == second.dist()
    assert len(first.dist()) > 10


def test_modes_do_not_follow_the_umask(tmp_path: Path) -> None:
    project = clone(tmp_path / "p", tmp_path / "store", MATRIX)
    previous = os.umask(0o077)
    try:
        assert project.doit("convert").returncode == 0
    finally:
        os.umask(previous)
    files = [path for path in (project.root / "build/convert").rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o444}
