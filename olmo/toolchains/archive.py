"""Archives of objects: the form of libraries that an app is linked with."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path


def archive(objects: Iterable[Path], output: Path) -> None:
    """Write the objects to the tar file `output`, by name, with nothing else of theirs."""
    with tarfile.open(output, "w", format=tarfile.USTAR_FORMAT) as file:
        for path in sorted(objects, key=lambda path: path.name):
            data = path.read_bytes()
            member = tarfile.TarInfo(path.name)
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
