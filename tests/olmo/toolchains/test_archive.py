import os
import tarfile
from pathlib import Path

from olmo.toolchains.archive import archive


def test_only_names_and_bytes_are_kept(tmp_path: Path) -> None:
    made = []
    for place, time, order in (("a", 1, 1), ("deeper/b", 2_000_000_000, -1)):
        directory = tmp_path / place
        directory.mkdir(parents=True)
        for name in ("lib0.o", "x_devc.o"):
            (directory / name).write_bytes(name.encode())
            (directory / name).chmod(0o700 if order > 0 else 0o444)
            os.utime(directory / name, (time, time))
        output = directory / "library.tar"
        archive(sorted(directory.glob("*.o"))[::order], output)
        made.append(output.read_bytes())
    assert made[0] == made[1]
    with tarfile.open(tmp_path / "a" / "library.tar") as file:
        assert file.getnames() == ["lib0.o", "x_devc.o"]
        assert file.extractfile("x_devc.o").read() == b"x_devc.o"  # type: ignore[union-attr]  # a file
