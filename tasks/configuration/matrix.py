"""matrix.toml: what to build, parsed once into frozen types.

Every mistake in the file is reported in one go, each with its TOML path and, where there is one,
a suggestion. Nothing is guessed and nothing unknown is ignored.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo.errors import OlmoError
from olmo.quantization import Encoding
from olmo.quantizations import QUANTIZATIONS
from olmo.target import Target
from olmo.targets import TARGETS, custom, only_one_device
from tasks.configuration import cluster, models, publication, release, remote_cache, trust
from tasks.configuration.cluster import ClusterSettings, read_cluster
from tasks.configuration.mistakes import Key, Mistakes, tables
from tasks.configuration.models import Model, read_models
from tasks.configuration.publication import Publication, read_publication
from tasks.configuration.release import Row, read_rows
from tasks.configuration.remote_cache import RemoteCache, read_cache
from tasks.configuration.trust import read_trust
from tasks.errors import BuildError

KEYS: Mapping[str, Key] = {
    "models": Key("tables by name", "where checkpoints come from"),
    "quantizations": Key("tables by name", "changes to built-in quantizations", "none"),
    "targets": Key("tables by name", "targets of your own", "none"),
    "release": Key("list of tables", "what to build"),
    "cache": Key("table", "a remote cache", "none"),
    "trust": Key("table", "whose results in a remote cache are used", "anybody's"),
    "publish": Key("table", "where `doit publish` puts it", "none"),
    "cluster": Key("table", "[workers](cluster.md) that run actions", "none"),
}

QUANTIZATION_KEYS: Mapping[str, Key] = {
    "encoding": Key(
        '`"f32-to-bf16"` or `"raw"`',
        "how float32 tensors are stored: shortened as MLC does, or exact and twice as large. For "
        "quantizations that store float32: q0f32, q4f32_1, e4m3_e4m3_f16 and "
        "e4m3_e4m3_f16_max_calibrate",
        '`"f32-to-bf16"`',
    ),
}

# Which of them a target has is said by the one that it starts from (`olmo.targets.custom`).
TARGET_KEYS: Mapping[str, Key] = {
    "base": Key("name", "the [built-in target](targets.md) to start from"),
    "suffix": Key("text", 'the form of the library, such as `".tar"`', "the target's usual one"),
    "opt": Key(
        "text",
        "`O0` to `O3`, the level of TVM's passes, and after it `;cudagraph=0` or `=1` for CUDA",
        '`"O2"`',
    ),
    "mcpu": Key("text", "the CPU, as LLVM names it", "that of the base", ("CPUs",)),
    "mattr": Key("list of texts", 'features, such as `"+avx512f"`', "those of the base", ("CPUs",)),
    "archs": Key(
        "list of texts",
        "`sm_…` of the fatbin; schedules are those of the lowest, and so is PTX",
        "those of the base",
        ("CUDA",),
    ),
    "max_threads_per_block": Key(
        "32 to 1024",
        "threads that a kernel is launched with",
        "that of the base",
        ("Metal", "OpenCL"),
    ),
}

# The tables of a matrix, as their headings name them, and their keys.
TABLES: Mapping[str, Mapping[str, Key]] = {
    "": KEYS,
    "[models.NAME]": models.KEYS,
    "[quantizations.NAME]": QUANTIZATION_KEYS,
    "[targets.NAME]": TARGET_KEYS,
    "[[release]]": release.KEYS,
    "exclude": release.EXCLUDE_KEYS,
    "[cache]": remote_cache.KEYS,
    "[trust]": trust.KEYS,
    "[publish]": publication.KEYS,
    "[cluster]": cluster.KEYS,
}


@dataclass(frozen=True)
class Matrix:
    """A whole matrix.toml: models and targets by name, rows to build in file order, servers.

    `encodings` has those of float32 tensors by quantization, where the file names one, `trust` the
    public keys, by name, of whom to believe. `publication` says where rows are published, if
    anywhere.
    """

    path: Path
    models: Mapping[str, Model]
    targets: Mapping[str, Target]
    rows: tuple[Row, ...]
    cache: RemoteCache = field(default_factory=RemoteCache)
    encodings: Mapping[str, Encoding] = field(default_factory=dict)
    trust: Mapping[str, bytes] = field(default_factory=dict)
    publication: Publication | None = None
    cluster: ClusterSettings = field(default_factory=ClusterSettings)


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
        raise BuildError(f"{path}: not UTF-8 text ({error})", "save it as UTF-8") from None
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = "docs/matrix.md shows how each table is written"
        raise BuildError(f"{path}: not valid TOML: {error}", hint) from None
    return parse(value, path)


def parse(value: Mapping[str, Any], path: Path) -> Matrix:
    """Check the parsed TOML of the file `path`; relative paths in it start at its directory.

    Raises BuildError that lists every mistake, one a line.
    """
    mistakes = Mistakes()
    mistakes.keys("", value, KEYS)
    found = read_models(value.get("models", {}), path.parent, mistakes)
    encodings = _encodings(value.get("quantizations", {}), mistakes)
    targets = _targets(value.get("targets", {}), mistakes)
    model_names = set(tables("models", value.get("models", {}), Mistakes()))
    target_names = set(TARGETS) | set(tables("targets", value.get("targets", {}), Mistakes()))
    rows = read_rows(value.get("release", []), model_names, target_names, mistakes)
    _check_devices(rows, targets, mistakes)
    cache = read_cache(value.get("cache", {}), path.parent, mistakes)
    keys = read_trust(value.get("trust", {}), mistakes)
    published = read_publication(value.get("publish"), rows, mistakes)
    workers = read_cluster(value.get("cluster", {}), path.parent, target_names, mistakes)
    if mistakes.lines:
        count = len(mistakes.lines)
        heading = f"{path}: {count} mistake{'s' if count > 1 else ''}"
        raise BuildError("\n  ".join([heading, *mistakes.lines]))
    return Matrix(path, found, targets, rows, cache, encodings, keys, published, workers)


def _check_devices(rows: Sequence[Row], targets: Mapping[str, Target], mistakes: Mistakes) -> None:
    for row in rows:
        alone = only_one_device(targets[row.target]) if row.target in targets else None
        if alone is not None and row.devices.count > 1:
            mistakes.add("release", f"{row}: {alone}", "leave it out of a table for several")


def _encodings(value: Any, mistakes: Mistakes) -> dict[str, Encoding]:
    """Read the `[quantizations]` of a matrix."""
    found = {}
    for name, table in tables("quantizations", value, mistakes).items():
        where = f"quantizations.{name}"
        mistakes.keys(where, table, QUANTIZATION_KEYS)
        if name not in QUANTIZATIONS:
            mistakes.unknown(where, "quantization", name, QUANTIZATIONS)
        elif "encoding" in table:
            try:
                found[name] = QUANTIZATIONS[name].encoding(str(table["encoding"]))
            except OlmoError as error:
                mistakes.add(f"{where}.encoding", str(error), error.hint)
    return found


def _targets(value: Any, mistakes: Mistakes) -> dict[str, Target]:
    targets = dict(TARGETS)
    for name, table in tables("targets", value, mistakes).items():
        where = f"targets.{name}"
        if "base" not in table:
            mistakes.add(where, "base is missing", f"one of {', '.join(sorted(TARGETS))}")
            continue
        options = {key: item for key, item in table.items() if key != "base"}
        try:
            targets[name] = custom(name, str(table["base"]), options)
        except OlmoError as error:
            mistakes.add(where, str(error), error.hint)
    return targets
