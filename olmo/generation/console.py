"""A conversation in the terminal."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from olmo.errors import OlmoError
from olmo.targets import TARGETS

_HELP = "/reset starts anew, /exit or the end of input leaves\n"


def library_of(directory: Path) -> Path:
    """Return the library built for the model in `directory`: `../libs/NAME-TARGET.SUFFIX`.

    NAME is the directory's without `-MLC`. Where there are libraries for several targets, the first
    in the table of targets is taken.

    Raises:
        OlmoError: there is none.
    """
    if not directory.is_dir():
        raise OlmoError(f"{directory}: no such directory")
    libraries = directory.resolve().parent / "libs"
    name = directory.resolve().name.removesuffix("-MLC")
    for target in TARGETS.values():
        library = libraries / f"{name}-{target.name}{target.suffix}"
        if library.is_file():
            return library
    raise OlmoError(
        f"{directory}: no library for it in {libraries}",
        f"build one with: python -m olmo compile {directory} -o model.so, "
        "and name it with --model-lib",
    )


def converse(directory: Path, library: Path, prompt: str | None, **sampling: Any) -> int:
    """Answer `prompt`, or each line of stdin in turn; return the exit code.

    Answers go to stdout as they are generated. `sampling` is that of `olmo.generation.chat.Chat.generate`.

    Raises:
        OlmoError: the model or library cannot be loaded, or the conversation outgrows the window.
    """
    for path in (directory, library):
        if not path.exists():
            raise OlmoError(f"{path}: no such file or directory")
    from olmo.generation.chat import Chat  # noqa: PLC0415  imports tvm

    chat = Chat(directory, library)
    if prompt is not None:
        _show(chat.generate(prompt, **sampling))
        return 0
    interactive = sys.stdin.isatty()
    if interactive:
        sys.stderr.write(_HELP)
    while (line := _line(interactive)) is not None:
        if line == "/exit":
            break
        if line == "/reset":
            chat.reset()
        elif line == "/help":
            sys.stderr.write(_HELP)
        elif line:
            _show(chat.generate(line, **sampling))
    return 0


def _line(interactive: bool) -> str | None:
    """Return the next line of stdin, None at its end."""
    if interactive:
        sys.stderr.write("> ")
        sys.stderr.flush()
    line = sys.stdin.readline()
    return line.strip() if line else None


def _show(pieces: Iterable[str]) -> None:
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    sys.stdout.flush()
