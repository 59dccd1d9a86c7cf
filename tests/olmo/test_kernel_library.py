import subprocess
import sys
from pathlib import Path

import pytest

from olmo.codec import file_name
from olmo.errors import OlmoError
from olmo.kernel_library import HOSTS, build_kernels
from olmo.kernels import host_of_kernels
from tasks.plan import KERNEL_HOSTS


def test_the_same_bytes_in_another_process(tmp_path: Path, kernels: Path) -> None:
    host = str(host_of_kernels())
    (tmp_path / "w").mkdir()
    script = "import sys; from pathlib import Path; from olmo.kernel_library import build_kernels\n"
    script += "build_kernels(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))"
    arguments = (host, str(tmp_path / "other.so"), str(tmp_path / "w"))
    subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONHASHSEED": "5", "TZ": "UTC"},
        cwd=tmp_path,
        check=True,
    )
    assert (tmp_path / "other.so").read_bytes() == (kernels / file_name(host)).read_bytes()


def test_an_unknown_host(tmp_path: Path) -> None:
    with pytest.raises(OlmoError) as caught:
        build_kernels("linux-x86-64", tmp_path / "k.so", tmp_path)
    assert "linux-x86_64" in str(caught.value.hint or caught.value)


def test_a_build_makes_the_kernels_of_every_host() -> None:
    assert set(KERNEL_HOSTS) == set(HOSTS)


def test_kernels_load_without_tvm(kernels: Path) -> None:
    script = "import sys; from pathlib import Path; from olmo.kernels import codecs\n"
    script += "codecs(Path(sys.argv[1])); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(kernels)], capture_output=True, text=True, check=True
    )
    assert not {"tvm", "tvm_ffi"} & set(done.stdout.split())
