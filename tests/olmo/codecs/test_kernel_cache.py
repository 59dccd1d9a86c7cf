from pathlib import Path

import pytest

from olmo.codecs.codec import file_name
from olmo.codecs.kernel_cache import WORTH_COMPILING, kernels_for
from olmo.codecs.kernels import Kernels, host_of_kernels

HOST = host_of_kernels()

pytestmark = pytest.mark.skipif(HOST is None, reason="no kernels are made for this machine")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch, kernels: Path) -> list[Path]:
    """Builds that were asked for; a library compiled already is what they make."""
    asked: list[Path] = []

    def build(host: str, output: Path, _work: Path) -> None:
        asked.append(output)
        output.write_bytes((kernels / file_name(host)).read_bytes())

    monkeypatch.setattr("olmo.codecs.kernel_library.build_kernels", build)
    return asked


def kept(cache: Path) -> Path:
    (library,) = cache.rglob("*.so")
    return library


def test_kernels_are_compiled_once(tmp_path: Path, builds: list[Path]) -> None:
    for _ in range(2):
        with kernels_for(WORTH_COMPILING, tmp_path / "cache") as directory:
            assert directory is not None
            Kernels(directory / file_name(str(HOST)))
    assert len(builds) == 1
    assert kept(tmp_path / "cache").stat().st_mode & 0o777 == 0o600


def test_small_models_use_kernels_that_are_there(tmp_path: Path, builds: list[Path]) -> None:
    with kernels_for(1000, tmp_path / "cache") as directory:
        assert directory is None
    with kernels_for(WORTH_COMPILING, tmp_path / "cache"):
        pass
    with kernels_for(1000, tmp_path / "cache") as directory:
        assert directory == kept(tmp_path / "cache").parent
    assert len(builds) == 1


def test_where_others_may_write_nothing_is_trusted(tmp_path: Path, builds: list[Path]) -> None:
    with kernels_for(WORTH_COMPILING, tmp_path / "cache"):
        pass
    for path in (kept(tmp_path / "cache"), kept(tmp_path / "cache").parent):
        mode = path.stat().st_mode
        path.chmod(mode | 0o022)
        with kernels_for(1000, tmp_path / "cache") as directory:
            assert directory is None
        path.chmod(mode)
    with kernels_for(1000, tmp_path / "cache") as directory:
        assert directory is not None
    assert len(builds) == 1


def test_a_cache_that_cannot_be_written(tmp_path: Path, builds: list[Path]) -> None:
    (tmp_path / "cache").write_text("a file")
    with kernels_for(WORTH_COMPILING, tmp_path / "cache") as directory:
        assert directory is not None
        Kernels(directory / file_name(str(HOST)))
    assert not directory.exists()
    assert len(builds) == 1


def test_other_sources_other_kernels(
    tmp_path: Path, builds: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with kernels_for(WORTH_COMPILING, tmp_path / "cache"):
        pass
    monkeypatch.setattr("olmo.codecs.kernel_cache._SOURCES", (Path(__file__),))
    with kernels_for(WORTH_COMPILING, tmp_path / "cache"):
        pass
    assert len(builds) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 2
