from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo.errors import OlmoError
from olmo.toolchains import toolchain
from olmo.toolchains.toolchain import Nvcc, nvcc, tools

SAYS = "#!/bin/sh\necho 'Cuda compilation tools, release 13.0, V13.0.88'\n"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for known in (toolchain.nvcc, toolchain._host_compiler):
        known.cache_clear()


def program(path: Path, text: str = SAYS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only directory that programs are found in, apart from a shell."""
    nvcc.cache_clear()
    toolchain._host_compiler.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    return tmp_path / "bin"


def test_nvcc_of_the_system(path: Path) -> None:
    program(path / "nvcc")
    assert nvcc() == Nvcc(path / "nvcc", None, "13.0.88")


@pytest.mark.usefixtures("path")
def test_nvcc_of_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = program(tmp_path / "nvidia" / "cu13" / "bin" / "nvcc")

    class Spec:
        submodule_search_locations = (str(tmp_path / "nvidia"),)

    monkeypatch.setattr("importlib.util.find_spec", lambda _name: Spec)
    assert nvcc() == Nvcc(found, tmp_path / "nvidia" / "cu13" / "lib", "13.0.88")


def test_what_is_missing_says_how_to_install_it(path: Path) -> None:
    with pytest.raises(OlmoError, match="CUDA libraries need nvcc") as caught:
        tools("cuda")
    assert "bootstrap.py cuda" in (caught.value.hint or "")
    program(path / "nvcc")
    with pytest.raises(OlmoError, match="nvcc needs g") as caught:
        tools("cuda")
    assert caught.value.hint == "sudo apt-get install g++"
    program(path / "g++", "#!/bin/sh\necho 12.2.0\n")
    toolchain._host_compiler.cache_clear()
    assert tools("cuda") == {"nvcc": "13.0.88", "g++": "12.2.0"}


def test_a_program_that_does_not_say_its_version(path: Path) -> None:
    program(path / "nvcc", "#!/bin/sh\nexit 1\n")
    with pytest.raises(OlmoError, match=r"nvcc --version does not say its version"):
        nvcc()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", ["llvm", "metal", "opencl", "adreno", "webgpu"])
def test_most_targets_need_no_program(kind: str) -> None:
    assert tools(kind) == {}
