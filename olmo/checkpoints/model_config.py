"""A model's config.json, from where there is one: the file, or the metadata of a GGUF file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from olmo.checkpoints.checkpoint_files import GGUF, GGUF_SUFFIX, layout
from olmo.checkpoints.gguf_config import check_same, read_config, tokenizer_metadata
from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.json_file import read_json

CONFIG_JSON = "config.json"

# What AutoAWQ writes for the layout that MLC's q4f16_awq runs.
_AWQ: Mapping[str, Any] = {
    "quant_method": "awq",
    "version": "gemm",
    "bits": 4,
    "group_size": 128,
    "zero_point": True,
}


class ModelConfig(NamedTuple):
    """The fields of a config.json, and the file that they come from, for errors."""

    fields: Mapping[str, Any]
    where: str

    def checked(self) -> "ModelConfig":
        """Return this; weights quantized in another way than AWQ's usual one are refused.

        Raises:
            OlmoError: a `quantization_config` of another method or layout.
        """
        given = self.fields.get("quantization_config")
        if given is None:
            return self
        where = f"{self.where}: quantization_config"
        if not isinstance(given, Mapping):
            raise OlmoError(f"{where}: expected a table of fields, found {type(given).__name__}")
        for name, value in _AWQ.items():
            said = given.get(name)
            if (said.lower() if isinstance(said, str) else said) != value:
                raise OlmoError(
                    f"{where}: {name} is {said!r}, but Olmill reads {value!r}",
                    "choose the checkpoint that is not quantized",
                )
        return self

    def parse(self) -> OLMoConfig:
        """Return the validated configuration.

        Raises:
            OlmoError: as `OLMoConfig.from_huggingface`.
        """
        return OLMoConfig.from_huggingface(self.fields, self.where)


def read_model_config(
    given: Path, source: Path | None = None, source_format: str = "auto"
) -> ModelConfig:
    """Return the configuration that `given` means, and hold it against the weights in `source`.

    `given` is a config.json, a GGUF file, or a directory with either. `source` is the checkpoint
    (as `open_checkpoint` takes it), `given`'s directory if None; where it is GGUF, what its
    metadata say must be what config.json says.

    Raises:
        OlmoError: no configuration, a broken one, or two that disagree.
    """
    path = given / CONFIG_JSON if given.is_dir() else given
    is_gguf = given.suffix == GGUF_SUFFIX and not given.is_dir()
    if is_gguf or (given.is_dir() and not path.exists()):
        if not is_gguf and not any(given.glob(f"*{GGUF_SUFFIX}")):
            raise OlmoError(f"{path}: no such file")
        files = [file for file, _ in layout(given, GGUF.name).files]
        return ModelConfig(read_config(files), str(files[0]))
    fields = read_json(path)
    if not isinstance(fields, Mapping):
        raise OlmoError(f"{path}: expected a table of fields, found {type(fields).__name__}")
    files = _gguf_files(path.parent if source is None else source, source_format)
    if files:
        check_same(fields, str(path), read_config(files), str(files[0]))
    return ModelConfig(fields, str(path)).checked()


def read_gguf_tokenizer(given: Path) -> dict[str, Any] | None:
    """Return what the GGUF file that `given` means says of its tokenizer, None if it means none.

    `given` is as for `read_model_config`.

    Raises:
        OlmoError: a broken file.
    """
    is_source = given.is_dir() or given.suffix == GGUF_SUFFIX
    files = _gguf_files(given if is_source else given.parent, "auto")
    return tokenizer_metadata(files[0]) if files else None  # of several the first says it


def _gguf_files(source: Path, source_format: str) -> list[Path]:
    """Return the GGUF files of a checkpoint; none if there is no checkpoint or it is no GGUF."""
    try:
        found = layout(source, source_format)
    except OlmoError:
        return []  # whoever reads the weights says what is wrong with them
    return [path for path, _ in found.files] if found.format is GGUF else []
