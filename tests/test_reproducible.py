"""The same inputs give the same bytes: whatever the place, the user's settings and the order."""

import os
import stat
from pathlib import Path

from tests.clone import clone
from tests.first_build import MATRIX, FirstBuild


def test_two_builds_are_bit_identical(first: FirstBuild, tmp_path: Path) -> None:
    second = clone(
        tmp_path / "elsewhere" / "and deeper",
        tmp_path / "store",
        MATRIX,
        {
            "PYTHONHASHSEED": "2",
            "TZ": "Asia/Kathmandu",
            "HOME": str(tmp_path),
            "CFLAGS": "-O0",
            "OPENBLAS_NUM_THREADS": "2",
        },
    )
    previous = os.umask(0o077)
    try:
        assert second.build("-n", "2") == first.built
    finally:
        os.umask(previous)
    dist = first.project.dist()
    assert second.dist() == dist
    assert len(dist) > 10


def test_modes_do_not_follow_the_umask(first: FirstBuild, tmp_path: Path) -> None:
    project = clone(tmp_path / "p", first.kernels(tmp_path / "store"), MATRIX)
    previous = os.umask(0o077)
    try:
        assert project.doit("convert").returncode == 0
    finally:
        os.umask(previous)
    files = [path for path in (project.root / "build/convert").rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o444}
