"""`[models.NAME]` of a matrix: where checkpoints come from and how one talks to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from olmo import embedded
from olmo.checkpoints.checkpoint_files import GGUF, GGUF_SUFFIX, layout
from olmo.configuration import conversation
from olmo.errors import OlmoError
from tasks.configuration.mistakes import Key, Mistakes, tables

SourceKind = Literal["embedded", "hf", "local"]

_REVISION = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Model:
    """One `[models.NAME]`: where a checkpoint comes from and how one talks to it.

    `path` is the checkpoint directory (embedded and local), `repo` and `revision` its place on the
    Hub, `weights` the names of its weight files where the matrix names one of several.
    `conv_template` is a built-in name or a whole template. `questions` is a JSON file of
    `{"question", "answer"}` objects that verification asks.
    """

    name: str
    source: SourceKind
    conv_template: str | Mapping[str, Any]
    path: Path | None = None
    weights: tuple[str, ...] = ()
    repo: str | None = None
    revision: str | None = None
    questions: Path | None = None


_FROM_HERE = "paths start at the directory of the matrix"
_SOURCES = ("embedded", "hf", "local")

KEYS: Mapping[str, Key] = {
    "source": Key(
        '`"embedded"`, `"hf"` or `"local"`',
        "comes with Olmill (`olmo-tiny`), from the Hugging Face Hub, or from a directory",
    ),
    "repo": Key('`"OWNER/NAME"`', "the repository", of=("hf",)),
    "revision": Key(
        "40 hexadecimal digits",
        "the commit. Branches and tags move, so they are refused",
        of=("hf",),
    ),
    "file": Key(
        "name of a `.gguf` file",
        "which one to take where the repository has GGUF files; of a model in several files any one",
        "none: another format",
        of=("hf",),
    ),
    "path": Key(
        "path",
        "the checkpoint's directory: `config.json`, weights and tokenizer files; or a `.gguf` file "
        "beside its tokenizer files",
        of=("local",),
    ),
    "conv_template": Key(
        "text or table",
        "a built-in template (`olmo`, `olmo2`, `LM`, `chatml`), or one of your own",
        "needed; embedded models have their own",
    ),
    "questions": Key(
        "path of a JSON file",
        '`[{"question": …, "answer": …}]`, which verification asks',
        "none; embedded models have their own",
    ),
}


def read_models(value: Any, base: Path, mistakes: Mistakes) -> dict[str, Model]:
    """Read the `[models]` of a matrix whose directory is `base`; note what is wrong with them."""
    found = {}
    for name, table in tables("models", value, mistakes).items():
        where = f"models.{name}"
        source = str(table.get("source", ""))
        before = len(mistakes.lines)
        if source not in _SOURCES:
            known = ", ".join(map(repr, _SOURCES))
            if not source:
                mistakes.add(where, "source is missing", f"one of {known}")
            else:
                mistakes.unknown(f"{where}.source", "source", source, _SOURCES)
            mistakes.keys(where, table, KEYS)
            continue
        allowed = {name: key for name, key in KEYS.items() if not key.of or source in key.of}
        mistakes.keys(where, table, allowed)
        model = {
            "embedded": _embedded_model,
            "hf": _hub_model,
            "local": _local_model,
        }[source](name, where, table, base, mistakes)
        if len(mistakes.lines) == before and model is not None:
            found[name] = model
    return found


def _embedded_model(
    name: str, where: str, table: Mapping[str, Any], base: Path, mistakes: Mistakes
) -> Model | None:
    if name not in embedded.NAMES:
        mistakes.unknown(where, "embedded model", name, embedded.NAMES)
        return None
    path = embedded.path(name)
    given = "conv_template" in table
    return Model(
        name,
        "embedded",
        _template(where, table, mistakes) if given else embedded.conv_template(name),
        path=path,
        questions=_questions(where, table, base, mistakes) or path / "questions.json",
    )


def _hub_model(
    name: str, where: str, table: Mapping[str, Any], base: Path, mistakes: Mistakes
) -> Model:
    repo = _string(where, table, "repo", mistakes)
    if repo and not _REPO.fullmatch(repo):
        mistakes.add(
            f"{where}.repo",
            f"{repo!r} is not OWNER/NAME",
            "what follows the host in the address of its page, such as 'allenai/OLMo-1B-hf'",
        )
    revision = _string(where, table, "revision", mistakes)
    if revision and not _REVISION.fullmatch(revision):
        mistakes.add(
            f"{where}.revision",
            f"{revision!r} is not a commit",
            "a branch or tag moves: pin the 40 hexadecimal digits of its commit",
        )
    file = _string(where, table, "file", mistakes) if "file" in table else None
    if file and ("/" in file or not file.endswith(GGUF_SUFFIX)):
        mistakes.add(
            f"{where}.file",
            f"{file!r} is not the name of a {GGUF_SUFFIX} file",
            "other formats need no `file`: their names are known",
        )
    return Model(
        name,
        "hf",
        _template(where, table, mistakes),
        weights=(file,) if file else (),
        repo=repo,
        revision=revision,
        questions=_questions(where, table, base, mistakes),
    )


def _local_model(
    name: str, where: str, table: Mapping[str, Any], base: Path, mistakes: Mistakes
) -> Model:
    given = _string(where, table, "path", mistakes)
    path = base / Path(given).expanduser() if given else base
    weights: tuple[str, ...] = ()
    if path.suffix == GGUF_SUFFIX and path.is_file():
        weights = _gguf_files(f"{where}.path", path, mistakes)
        path = path.parent
    elif given and not path.is_dir():
        mistakes.add(
            f"{where}.path", f"{given} is not a directory, nor a {GGUF_SUFFIX} file", _FROM_HERE
        )
    return Model(
        name,
        "local",
        _template(where, table, mistakes),
        path=path,
        weights=weights,
        questions=_questions(where, table, base, mistakes),
    )


def _gguf_files(where: str, path: Path, mistakes: Mistakes) -> tuple[str, ...]:
    try:
        return tuple(file.name for file, _ in layout(path, GGUF.name).files)
    except OlmoError as error:
        mistakes.add(where, str(error), error.hint)
        return ()


def _string(where: str, table: Mapping[str, Any], key: str, mistakes: Mistakes) -> str | None:
    value = table.get(key)
    if value is None:
        mistakes.add(where, f"{key} is missing", f"it is {KEYS[key].form}")
    elif not isinstance(value, str) or not value:
        mistakes.add(f"{where}.{key}", f"expected text, found {value!r}")
        return None
    return value


def _questions(where: str, table: Mapping[str, Any], base: Path, mistakes: Mistakes) -> Path | None:
    if "questions" not in table:
        return None
    given = _string(where, table, "questions", mistakes)
    if given is None:
        return None
    path = base / Path(given).expanduser()
    if not path.is_file():
        mistakes.add(f"{where}.questions", f"{given} is not a file", _FROM_HERE)
    return path


def _template(where: str, table: Mapping[str, Any], mistakes: Mistakes) -> str | Mapping[str, Any]:
    value = table.get("conv_template")
    if value is None:
        mistakes.add(
            where,
            "conv_template is missing",
            f"one of {', '.join(sorted(conversation.TEMPLATES))}, or a table of your own",
        )
        return ""
    if not isinstance(value, str | Mapping):
        mistakes.add(f"{where}.conv_template", f"expected a name or a table, found {value!r}")
        return ""
    try:
        conversation.template(value)
    except OlmoError as error:
        mistakes.add(f"{where}.conv_template", str(error), error.hint)
    return value
