import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from olmo.errors import OlmoError
from olmo.generation.console import converse, library_of


class Echo:
    """Stands for a chat: what is tested here is the console around it."""

    def __init__(self, directory: Path, library: Path) -> None:
        assert directory.is_dir()
        assert library.is_file()
        self.turn = 0

    def generate(self, prompt: str, **sampling: Any) -> Iterator[str]:
        self.turn += 1
        yield f"{self.turn}:"
        yield f"{prompt}:{sampling}"

    def reset(self) -> None:
        self.turn = 0


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    module = ModuleType("olmo.generation.chat")
    module.__dict__["Chat"] = Echo
    monkeypatch.setitem(sys.modules, "olmo.generation.chat", module)
    library = tmp_path / "lib.so"
    library.touch()
    return tmp_path, library


def test_one_prompt(model: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert converse(*model, "hello", seed=3) == 0
    assert capsys.readouterr().out == "1:hello:{'seed': 3}\n"


def test_lines_of_stdin(
    model: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\n\nb\n/reset\nc\n/help\n/exit\nd\n"))
    assert converse(*model, None) == 0
    shown = capsys.readouterr()
    assert shown.out == "1:a:{}\n2:b:{}\n1:c:{}\n"
    assert shown.err == "/reset starts anew, /exit or the end of input leaves\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_prompted(
    model: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("a\n"))
    assert converse(*model, None) == 0
    shown = capsys.readouterr()
    assert shown.out == "1:a:{}\n"
    assert shown.err.endswith("leaves\n> > ")


def test_absent_files(tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match="gone: no such file or directory"):
        converse(tmp_path / "gone", tmp_path, "x")
    with pytest.raises(OlmoError, match=r"gone\.so: no such file or directory"):
        converse(tmp_path, tmp_path / "gone.so", "x")


def test_library_beside_the_directory(tmp_path: Path) -> None:
    directory = tmp_path / "olmo-q4f16_1-ctx512-MLC"
    directory.mkdir()
    with pytest.raises(OlmoError, match="no library for it in") as caught:
        library_of(directory)
    assert caught.value.hint is not None
    assert "--model-lib" in caught.value.hint
    library = tmp_path / "libs" / "olmo-q4f16_1-ctx512-linux-x86_64-cpu.so"
    library.parent.mkdir()
    library.touch()
    assert library_of(directory) == library
