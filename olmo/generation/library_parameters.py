"""Which stored tensors a library takes from a converted directory, checked before any is read."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from olmo.conversion.tensor_cache import MANIFEST
from olmo.conversion.tensor_cache_reader import read_tensor_cache
from olmo.errors import OlmoError
from olmo.weights import Parameter, part_name

_MISMATCH = "use the library and the weights of one model and quantization"


class LibraryParameters:
    """The tensors in `model_dir` as the `metadata` of a library wants them.

    The directory holds whole tensors, which functions of the library divide over the shards, or the
    parts of every shard. `library` names the library in errors.

    Raises:
        OlmoError: the directory is broken, or its tensors are not those the library was compiled
            for (names the tensor and both files).
    """

    def __init__(self, model_dir: Path, library: Path, metadata: Mapping[str, Any]) -> None:
        self._cache = read_tensor_cache(model_dir)
        self._entries: list[Mapping[str, Any]] = metadata["params"]
        divided = (entry for entry in self._entries if entry["preprocs"])
        self._presharded = any(
            part_name(entry["name"], 0) in self._cache.tensors for entry in divided
        )
        shards: int = metadata["tensor_parallel_shards"]
        wanted = {p.name: p for entry in self._entries for p in self._stored(entry, shards)}
        self._check(model_dir / MANIFEST, library, wanted)

    def read(
        self, shard: int, stage: int
    ) -> Iterator[tuple[NDArray[Any] | None, Mapping[str, Any] | None]]:
        """Yield what one device gets of each parameter, in the library's order, one at a time.

        That is the tensor, and the entry of `preprocs` that is still to divide it; no tensor where
        the device's stage has no use for it.
        """
        for entry in self._entries:
            if stage not in entry["pipeline_stages"]:
                yield None, None
            elif not entry["preprocs"]:
                yield self._cache.read(entry["name"]), None
            elif self._presharded:
                yield self._cache.read(part_name(entry["name"], shard)), None
            else:
                yield self._cache.read(entry["name"]), entry["preprocs"][0]

    def _stored(self, entry: Mapping[str, Any], shards: int) -> Iterator[Parameter]:
        name, shape, dtype = entry["name"], tuple(entry["shape"]), entry["dtype"]
        if not entry["preprocs"]:
            yield Parameter(name, shape, dtype)
        elif self._presharded:
            for shard in range(shards):
                yield Parameter(part_name(name, shard), shape, dtype)
        else:
            yield Parameter(name, tuple(entry["preprocs"][0]["in_shape"]), dtype)

    def _check(self, manifest: Path, library: Path, wanted: Mapping[str, Parameter]) -> None:
        for name in self._cache.tensors:
            if name not in wanted:
                raise OlmoError(
                    f"{manifest}: holds the tensor {name!r}, which {library} has no use for",
                    _MISMATCH,
                )
        for name, parameter in wanted.items():
            if name not in self._cache.tensors:
                raise OlmoError(
                    f"{manifest}: lacks the tensor {name!r} that {library} needs", _MISMATCH
                )
            stored = self._cache.tensors[name].parameter
            for what, found, needed in (
                ("shape", list(stored.shape), list(parameter.shape)),
                ("dtype", stored.dtype, parameter.dtype),
            ):
                if found != needed:
                    raise OlmoError(
                        f"{manifest}: tensor {name!r} has {what} {found}, "
                        f"but {library} was compiled for {needed}",
                        _MISMATCH,
                    )
