"""matrix.toml: what to build, parsed once into frozen types.

Every mistake in the file is reported in one go, each with its TOML path and, where there is one,
a suggestion. Nothing is guessed and nothing unknown is ignored.
"""

from __future__ import annotations

import difflib
import itertools
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from olmo import conversation, embedded
from olmo.checkpoint_files import GGUF, GGUF_SUFFIX, layout
from olmo.errors import OlmoError
from olmo.quantization import QUANTIZATIONS
from olmo.target import Target
from olmo.targets import TARGETS, custom
from tasks.errors import BuildError

SourceKind = Literal["embedded", "hf", "local"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Model:
    """One `[models.NAME]`: where a checkpoint comes from and how one talks to it.

    `path` is the checkpoint directory (embedded and local), `weights` the names of its weight
    files where the matrix names one of several, `repo` and `revision` its place on the Hub.
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


@dataclass(frozen=True, order=True)
class Row:
    """One thing to release."""

    model: str
    quantization: str
    window: int
    target: str

    def __str__(self) -> str:
        return f"{self.model}:{self.quantization}:{self.window}:{self.target}"


@dataclass(frozen=True)
class Matrix:
    """A whole matrix.toml: models and targets by name, and the rows to build, in file order."""

    path: Path
    models: Mapping[str, Model]
    targets: Mapping[str, Target]
    rows: tuple[Row, ...]


class _Problems:
    """Collects mistakes, each with its TOML path."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, where: str, message: str, hint: str | None = None) -> None:
        self.lines.append(f"{where}: {message}" + (f" (hint: {hint})" if hint else ""))

    def unknown(self, where: str, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
        self.add(where, f"unknown {what} {name!r}", hint)

    def keys(self, where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        names = list(known)
        for key in table:
            if key not in names:
                self.unknown(f"{where}.{key}" if where else key, "key", key, names)


def load(path: Path) -> Matrix:
    """Read and check a matrix file.

    Raises BuildError that lists every mistake, one a line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(
            f"{path}: {error.strerror}", "choose a matrix: doit matrix=FILE or OLMILL_MATRIX"
        ) from None
    except UnicodeDecodeError as error:
        raise BuildError(f"{path}: not UTF-8 text ({error})") from None
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BuildError(f"{path}: not valid TOML: {error}") from None
    return parse(value, path)


def parse(value: Mapping[str, Any], path: Path) -> Matrix:
    """Check the parsed TOML of the file `path`; relative paths in it start at its directory.

    Raises BuildError that lists every mistake, one a line.
    """
    problems = _Problems()
    problems.keys("", value, ("models", "targets", "release"))
    models = _models(value.get("models", {}), path.parent, problems)
    targets = _targets(value.get("targets", {}), problems)
    model_names = set(_table("models", value.get("models", {}), _Problems()))
    target_names = set(TARGETS) | set(_table("targets", value.get("targets", {}), _Problems()))
    rows = _rows(value.get("release", []), model_names, target_names, problems)
    if problems.lines:
        count = len(problems.lines)
        heading = f"{path}: {count} mistake{'s' if count > 1 else ''}"
        raise BuildError("\n  ".join([heading, *problems.lines]))
    return Matrix(path, models, targets, rows)


def _table(where: str, value: Any, problems: _Problems) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(value, Mapping):
        problems.add(where, f"expected tables, found {type(value).__name__}")
        return {}
    good = {}
    for name, item in value.items():
        if not isinstance(item, Mapping):
            problems.add(f"{where}.{name}", f"expected a table, found {type(item).__name__}")
        elif not _NAME.fullmatch(name):
            problems.add(
                f"{where}.{name}", "names are letters, digits, '.', '_' and '-', without spaces"
            )
        else:
            good[name] = item
    return good


_MODEL_KEYS: Mapping[str, tuple[str, ...]] = {
    "embedded": (),
    "hf": ("repo", "revision"),
    "local": ("path",),
}


def _models(value: Any, base: Path, problems: _Problems) -> dict[str, Model]:
    models = {}
    for name, table in _table("models", value, problems).items():
        where = f"models.{name}"
        source = str(table.get("source", ""))
        if source not in _MODEL_KEYS:
            known = ", ".join(map(repr, _MODEL_KEYS))
            if not source:
                problems.add(where, "source is missing", f"one of {known}")
            else:
                problems.unknown(f"{where}.source", "source", source, _MODEL_KEYS)
            continue
        allowed = ("source", "conv_template", "questions", *_MODEL_KEYS[source])
        problems.keys(where, table, allowed)
        before = len(problems.lines)
        model = {
            "embedded": _embedded_model,
            "hf": _hub_model,
            "local": _local_model,
        }[source](name, where, table, base, problems)
        if len(problems.lines) == before and model is not None:
            models[name] = model
    return models


def _embedded_model(
    name: str, where: str, table: Mapping[str, Any], base: Path, problems: _Problems
) -> Model | None:
    if name not in embedded.NAMES:
        problems.unknown(where, "embedded model", name, embedded.NAMES)
        return None
    path = embedded.path(name)
    given = "conv_template" in table
    return Model(
        name,
        "embedded",
        _template(where, table, problems) if given else embedded.conv_template(name),
        path=path,
        questions=_questions(where, table, base, problems) or path / "questions.json",
    )


def _hub_model(
    name: str, where: str, table: Mapping[str, Any], base: Path, problems: _Problems
) -> Model:
    repo = _string(where, table, "repo", problems)
    if repo and not _REPO.fullmatch(repo):
        problems.add(f"{where}.repo", f"{repo!r} is not OWNER/NAME")
    revision = _string(where, table, "revision", problems)
    if revision and not _REVISION.fullmatch(revision):
        problems.add(
            f"{where}.revision",
            f"{revision!r} is not a commit",
            "a branch or tag moves: pin the 40 hexadecimal digits of its commit",
        )
    return Model(
        name,
        "hf",
        _template(where, table, problems),
        repo=repo,
        revision=revision,
        questions=_questions(where, table, base, problems),
    )


def _local_model(
    name: str, where: str, table: Mapping[str, Any], base: Path, problems: _Problems
) -> Model:
    given = _string(where, table, "path", problems)
    path = base / Path(given).expanduser() if given else base
    weights: tuple[str, ...] = ()
    if path.suffix == GGUF_SUFFIX and path.is_file():
        weights = _gguf_files(f"{where}.path", path, problems)
        path = path.parent
    elif given and not path.is_dir():
        problems.add(f"{where}.path", f"{given} is not a directory, nor a {GGUF_SUFFIX} file")
    return Model(
        name,
        "local",
        _template(where, table, problems),
        path=path,
        weights=weights,
        questions=_questions(where, table, base, problems),
    )


def _gguf_files(where: str, path: Path, problems: _Problems) -> tuple[str, ...]:
    try:
        return tuple(file.name for file, _ in layout(path, GGUF.name).files)
    except OlmoError as error:
        problems.add(where, str(error), error.hint)
        return ()


def _string(where: str, table: Mapping[str, Any], key: str, problems: _Problems) -> str | None:
    value = table.get(key)
    if value is None:
        problems.add(where, f"{key} is missing")
    elif not isinstance(value, str) or not value:
        problems.add(f"{where}.{key}", f"expected text, found {value!r}")
        return None
    return value


def _questions(
    where: str, table: Mapping[str, Any], base: Path, problems: _Problems
) -> Path | None:
    if "questions" not in table:
        return None
    given = _string(where, table, "questions", problems)
    if given is None:
        return None
    path = base / Path(given).expanduser()
    if not path.is_file():
        problems.add(f"{where}.questions", f"{given} is not a file")
    return path


def _template(where: str, table: Mapping[str, Any], problems: _Problems) -> str | Mapping[str, Any]:
    value = table.get("conv_template")
    if value is None:
        problems.add(
            where,
            "conv_template is missing",
            f"one of {', '.join(sorted(conversation.TEMPLATES))}, or a table of your own",
        )
        return ""
    if not isinstance(value, str | Mapping):
        problems.add(f"{where}.conv_template", f"expected a name or a table, found {value!r}")
        return ""
    try:
        conversation.template(value)
    except OlmoError as error:
        problems.add(f"{where}.conv_template", str(error), error.hint)
    return value


def _targets(value: Any, problems: _Problems) -> dict[str, Target]:
    targets = dict(TARGETS)
    for name, table in _table("targets", value, problems).items():
        where = f"targets.{name}"
        if name in TARGETS:
            problems.add(where, "this name is built in", "choose another name")
            continue
        base = table.get("base")
        if base is None:
            problems.add(where, "base is missing", f"one of {', '.join(sorted(TARGETS))}")
        elif base not in TARGETS:
            problems.unknown(f"{where}.base", "target", str(base), TARGETS)
        else:
            options = {key: item for key, item in table.items() if key != "base"}
            try:
                targets[name] = custom(name, base, options)
            except OlmoError as error:
                problems.add(where, str(error), error.hint)
    return targets


_ROW_KEYS = ("models", "quantizations", "windows", "targets")


def _rows(
    value: Any, models: Iterable[str], targets: Iterable[str], problems: _Problems
) -> tuple[Row, ...]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        problems.add("release", "expected [[release]] tables")
        return ()
    if not value:
        problems.add("release", "there is nothing to build", "add a [[release]] table")
        return ()
    checks: Mapping[str, Callable[[str, Any], bool]] = {
        "models": lambda where, name: _known(where, "model", name, models, problems),
        "quantizations": lambda where, name: _quantization(where, name, problems),
        "windows": lambda where, window: _window(where, window, problems),
        "targets": lambda where, name: _known(where, "target", name, targets, problems),
    }
    rows: dict[Row, str] = {}
    for number, table in enumerate(value):
        where = f"release[{number}]"
        problems.keys(where, table, (*_ROW_KEYS, "exclude"))
        axes = [_axis(where, table, key, checks[key], problems) for key in _ROW_KEYS]
        excluded = _exclusions(where, table.get("exclude", []), axes, problems)
        product = [
            Row(*values)
            for values in itertools.product(*axes)
            if not any(_matches(values, rule) for rule in excluded)
        ]
        if not product and all(axes):
            problems.add(f"{where}.exclude", "excludes every row", "the product is empty")
        for row in product:
            if row in rows:
                problems.add(where, f"{row} is listed again", f"first in {rows[row]}")
            rows.setdefault(row, where)
    return tuple(rows)


def _axis(
    where: str,
    table: Mapping[str, Any],
    key: str,
    check: Callable[[str, Any], bool],
    problems: _Problems,
) -> list[Any]:
    values = table.get(key)
    if values is None:
        problems.add(where, f"{key} is missing")
        return []
    if not isinstance(values, list):
        problems.add(f"{where}.{key}", f"expected a list, found {values!r}")
        return []
    if not values:
        problems.add(f"{where}.{key}", "is empty: the product would be empty")
    good = []
    for index, value in enumerate(values):
        if value in values[:index]:
            problems.add(f"{where}.{key}[{index}]", f"{value!r} is listed twice")
        elif check(f"{where}.{key}[{index}]", value):
            good.append(value)
    return good


def _known(where: str, what: str, name: Any, known: Iterable[str], problems: _Problems) -> bool:
    if isinstance(name, str) and name in known:
        return True
    problems.unknown(where, what, str(name), known)
    return False


def _quantization(where: str, name: Any, problems: _Problems) -> bool:
    if not _known(where, "quantization", name, QUANTIZATIONS, problems):
        return False
    reason = QUANTIZATIONS[name].unsupported
    if reason:
        problems.add(where, f"{name} cannot be built: {reason}")
    return reason is None


def _window(where: str, window: Any, problems: _Problems) -> bool:
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        problems.add(where, f"a window is a positive number of tokens, not {window!r}")
        return False
    return True


_EXCLUDE_KEYS = {"model": 0, "quantization": 1, "window": 2, "target": 3}


def _exclusions(
    where: str, value: Any, axes: list[list[Any]], problems: _Problems
) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        problems.add(f"{where}.exclude", "expected a list of tables such as { window = 256 }")
        return []
    good: list[Mapping[str, Any]] = []
    for number, rule in enumerate(value):
        place = f"{where}.exclude[{number}]"
        problems.keys(place, rule, _EXCLUDE_KEYS)
        known = {key: item for key, item in rule.items() if key in _EXCLUDE_KEYS}
        if not rule:
            problems.add(place, "is empty: it would exclude every row")
            continue
        misses = [key for key, item in known.items() if item not in axes[_EXCLUDE_KEYS[key]]]
        for key in misses:
            problems.add(
                f"{place}.{key}", f"{known[key]!r} is not in {_ROW_KEYS[_EXCLUDE_KEYS[key]]}"
            )
        if known and not misses and len(known) == len(rule):
            good.append(known)
    return good


def _matches(values: tuple[Any, ...], rule: Mapping[str, Any]) -> bool:
    return all(values[_EXCLUDE_KEYS[key]] == item for key, item in rule.items())
