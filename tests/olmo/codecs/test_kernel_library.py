import re
import subprocess
import sys
from pathlib import Path

import pytest

from olmo.codecs.codec import file_name
from olmo.codecs.kernel_cache import _SOURCES
from olmo.codecs.kernel_library import HOSTS, build_kernels
from olmo.errors import OlmoError
from tasks.plan import KERNEL_HOSTS

OLMO = Path(__file__).resolve().parents[3] / "olmo"


# Builds the kernels, and writes what they are in assembly beside them.
BUILD = """
import functools
from pathlib import Path
from olmo.codecs import kernel_library
from olmo.codecs.codec import file_name
kernel_library.compiled = functools.cache(kernel_library.compiled)
for host in kernel_library.HOSTS:
    Path("w", host).mkdir(parents=True)
    kernel_library.build_kernels(host, Path(file_name(host)), Path("w", host))
    Path(host).write_text(kernel_library.compiled(host).inspect_source("asm"))
"""


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory in which another process has built the kernels."""
    place = tmp_path_factory.mktemp("again")
    subprocess.run(
        [sys.executable, "-c", BUILD],
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONHASHSEED": "5", "TZ": "UTC"},
        cwd=place,
        check=True,
    )
    return place


def test_the_same_bytes_in_another_process(again: Path, kernels: Path) -> None:
    for host in HOSTS:
        assert (again / file_name(host)).read_bytes() == (kernels / file_name(host)).read_bytes()


@pytest.mark.parametrize("host", HOSTS)
def test_a_product_and_a_sum_are_two_roundings(again: Path, host: str) -> None:
    assembly = (again / host).read_text()
    instructions = set(re.findall(r"^\t([a-z0-9.]+)", assembly, re.MULTILINE))
    assert instructions & {"fmul", "vmulps"}
    fused = re.compile(r"v?fn?m(la|ls|add|sub)")
    assert not [name for name in instructions if fused.match(name)]


def test_the_kept_kernels_are_named_by_all_they_are_made_of() -> None:
    pending, found = ["codecs.kernel_library"], set[Path]()
    while pending:
        path = OLMO / f"{pending.pop().replace('.', '/')}.py"
        if path.exists() and path not in found:
            found.add(path)
            pending += re.findall(r"^from olmo\.([\w.]+) import", path.read_text(), re.MULTILINE)
    assert set(_SOURCES) == found - {OLMO / "errors.py"}


def test_an_unknown_host(tmp_path: Path) -> None:
    with pytest.raises(OlmoError) as caught:
        build_kernels("linux-x86-64", tmp_path / "k.so", tmp_path)
    assert "linux-x86_64" in str(caught.value.hint or caught.value)


def test_a_build_makes_the_kernels_of_every_host() -> None:
    assert set(KERNEL_HOSTS) == set(HOSTS)


def test_kernels_load_without_tvm(kernels: Path) -> None:
    script = "import sys; from pathlib import Path; from olmo.codecs.kernels import codecs\n"
    script += "codecs(Path(sys.argv[1])); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(kernels)], capture_output=True, text=True, check=True
    )
    assert not {"tvm", "tvm_ffi"} & set(done.stdout.split())
