"""A checkpoint: all tensors of a model, in one safetensors file or in many with an index.

Everything that headers can tell is checked before the first weight is read: names, shapes, dtypes,
byte ranges, and that each file the index names is there.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from olmo.config import OLMoConfig
from olmo.errors import OlmoError, unknown
from olmo.json_file import read_json
from olmo.safetensors_file import read_header
from olmo.source_tensor import DTYPES, SourceTensor
from olmo.weights import Source, is_ignored, weights

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FORMATS = ("auto", "huggingface-safetensor")


@contextmanager
def open_checkpoint(
    source: Path, config: OLMoConfig, source_format: str = "auto"
) -> Iterator[Mapping[str, SourceTensor]]:
    """Open a checkpoint and yield its tensors by name: exactly those that `config` needs.

    `source` is a directory with `model.safetensors` or `model.safetensors.index.json`, or one such
    file. Tensors that transformers once saved and nobody reads (`rotary_emb.inv_freq`) are left
    out. The files are open until the context ends.

    Raises:
        OlmoError: nothing to read, a broken file or index, or tensors that are missing, not
            expected, or of the wrong shape or dtype.
    """
    if source_format not in FORMATS:
        raise unknown("source format", source_format, FORMATS)
    with ExitStack() as stack:
        files = _files(source)
        tensors: dict[str, SourceTensor] = {}
        for path, listed in files:
            header = read_header(_open(path, stack), str(path))
            _check_listed(path, header, listed)
            for name, tensor in header.items():
                if name in tensors:
                    raise OlmoError(f"{path}: tensor {name!r} is also in {tensors[name].file}")
                tensors[name] = tensor
        yield _expected(tensors, config, source)


def _open(path: Path, stack: ExitStack) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise OlmoError(f"{path}: no such file") from None
    except OSError as error:
        raise OlmoError(f"{path}: {error.strerror}") from None
    stack.callback(os.close, descriptor)
    if not path.is_file():
        raise OlmoError(f"{path}: not a regular file")
    return descriptor


def _files(source: Path) -> list[tuple[Path, set[str] | None]]:
    """Return each file with the tensors that the index places in it, None without an index."""
    if source.is_dir():
        single, index = source / SINGLE, source / INDEX
        if single.exists() and index.exists():
            raise OlmoError(
                f"{source}: both {SINGLE} and {INDEX} are there", "name one of them as the source"
            )
        if index.exists():
            return _indexed(index)
        if single.exists():
            return [(single, None)]
        raise OlmoError(f"{source}: no {SINGLE} and no {INDEX}", _other_formats(source))
    if not source.exists():
        raise OlmoError(f"{source}: no such file or directory")
    if source.name.endswith(".index.json"):
        return _indexed(source)
    return [(source, None)]


def _other_formats(source: Path) -> str | None:
    suffixes = {".bin": "PyTorch", ".pt": "PyTorch", ".gguf": "GGUF"}
    for path in sorted(source.iterdir()):
        if path.suffix in suffixes:
            return f"{path.name} is a {suffixes[path.suffix]} file: convert it to safetensors first"
        if path.suffix == ".safetensors":
            return f"to read {path.name}, name it as the source"
    return None


def _indexed(index: Path) -> list[tuple[Path, set[str] | None]]:
    obj = read_json(index)
    weight_map = obj.get("weight_map") if isinstance(obj, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise OlmoError(f"{index}: no weight_map")
    listed: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        _check_inside(file, tensor, index)
        listed.setdefault(file, set()).add(tensor)
    for file in sorted(listed):
        if not (index.parent / file).exists():
            raise OlmoError(
                f"{index}: names {file}, which is not there", "download the missing file"
            )
    return [(index.parent / file, listed[file]) for file in sorted(listed)]


def _check_inside(file: Any, tensor: str, index: Path) -> None:
    """Refuse a file name that leads out of the directory of the index."""
    parts = PurePosixPath(file).parts if isinstance(file, str) else ()
    if (
        not parts
        or file.startswith("/")
        or ".." in parts
        or "\\" in file
        or "\0" in file
        or ":" in file
    ):
        raise OlmoError(
            f"{index}: tensor {tensor!r} is placed in {file!r}, outside the checkpoint's directory"
        )


def _check_listed(path: Path, header: Mapping[str, Any], listed: set[str] | None) -> None:
    if listed is None:
        return
    if absent := sorted(listed - header.keys()):
        raise OlmoError(f"{path}: the index places {_some(absent)} in this file, but it is not")
    if surplus := sorted(header.keys() - listed):
        raise OlmoError(f"{path}: holds {_some(surplus)}, which the index does not name")


def _expected(
    tensors: Mapping[str, SourceTensor], config: OLMoConfig, source: Path
) -> dict[str, SourceTensor]:
    """Return the tensors of the model's own sources; anything else is an error."""
    sources = [s for weight in weights(config) for s in weight.sources]
    names = {s.name for s in sources}
    found = {name: tensor for name, tensor in tensors.items() if not is_ignored(name)}
    if missing := [s.name for s in sources if s.name not in found]:
        raise OlmoError(f"{source}: missing {_some(missing)}", _missing_hint(missing, config))
    if surplus := sorted(found.keys() - names):
        raise OlmoError(
            f"{source}: {_some(surplus)} not expected by config.json", _surplus_hint(surplus)
        )
    for s in sources:
        _check_tensor(found[s.name], s)
    return found


def _check_tensor(tensor: SourceTensor, source: Source) -> None:
    where = f"{tensor.file}: tensor {tensor.name!r}"
    if tensor.shape != source.shape:
        raise OlmoError(
            f"{where} has shape {list(tensor.shape)}, but config.json says {list(source.shape)}"
        )
    if tensor.dtype not in DTYPES:
        raise OlmoError(
            f"{where} has dtype {tensor.dtype}, but weights are {', '.join(sorted(DTYPES))}"
        )


def _missing_hint(missing: Iterable[str], config: OLMoConfig) -> str | None:
    if "lm_head.weight" in missing and not config.tie_word_embeddings:
        return "config.json says tie_word_embeddings is false: is it true for this model?"
    return None


def _surplus_hint(surplus: Iterable[str]) -> str | None:
    names = list(surplus)
    if "lm_head.weight" in names:
        return "config.json says tie_word_embeddings is true: is it false for this model?"
    if any("norm" in name for name in names):
        return "OLMo has no norm weights: is this checkpoint of another family?"
    if any(name.endswith(".bias") for name in names):
        return "OLMo has no biases: is this checkpoint of another family?"
    return None


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"tensor{'s' if len(names) > 1 else ''} {shown}{more}"
