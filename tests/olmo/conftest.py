"""Libraries that tests share: each compiled once in a run, when a test first asks for it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from olmo.codecs.codec import file_name
from olmo.codecs.kernel_library import HOSTS, build_kernels
from olmo.codecs.kernels import host_of_kernels
from olmo.compilation.compile import compile_library
from olmo.modeling.lower import lower
from olmo.target import Target, symbol_prefix
from tests.made_once import made_once
from tests.olmo.libraries import (
    GOLDEN,
    Built,
    build,
    compile_spec,
    device_target,
    read_built,
)

Library = Callable[..., Built]
DeviceLibrary = Callable[[str], Path]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Return a golden checkpoint ("pub-a" or "pub-b") compiled with a quantization.

    Fields of the config may be overridden; `quick` is that of `build`.
    """
    made: dict[str, Built] = {}

    def library(
        checkpoint: str, quantization: str, *, quick: bool = False, **overrides: int
    ) -> Built:
        parts = [checkpoint, quantization, *["quick"] * quick]
        name = "-".join([*parts, *map(str, sorted(overrides.items()))])
        if name not in made:
            source = GOLDEN / checkpoint
            out = made_once(
                tmp_path_factory,
                name,
                lambda out: build(source, quantization, out, quick=quick, **overrides),
            )
            made[name] = read_built(compile_spec(source, quantization, **overrides), out)
        return made[name]

    return library


@pytest.fixture(scope="session")
def divided(built: Library) -> Built:
    """Return pub-b in q0f32 for two shards in each of two stages."""
    return built("pub-b", "q0f32", tensor_parallel_shards=2, pipeline_parallel_stages=2)


@pytest.fixture(scope="session")
def device_library(tmp_path_factory: pytest.TempPathFactory) -> DeviceLibrary:
    """Return the library of pub-b in q4f16_1 for a target; static ones as of the model "pub-b".

    What it is compiled of is beside it: `module` and `metadata`.
    """
    spec = replace(compile_spec(GOLDEN / "pub-b", "q4f16_1"), active_vocab_size=256)
    parts = ("module", "metadata")

    def lowered(kind: str, out: Path) -> None:
        for part, data in zip(parts, lower(spec, kind), strict=True):
            (out / part).write_bytes(data)

    def compiled(chosen: Target, out: Path) -> None:
        kind = made_once(tmp_path_factory, chosen.kind, lambda into: lowered(chosen.kind, into))
        for part in parts:
            shutil.copyfile(kind / part, out / part)
        module, metadata = ((out / part).read_bytes() for part in parts)
        prefix = symbol_prefix("pub-b", "q4f16_1") if chosen.suffix == ".tar" else None
        compile_library(module, metadata, chosen, out / f"library{chosen.suffix}", prefix, work=out)

    def library(name: str) -> Path:
        chosen = device_target(name)
        out = made_once(tmp_path_factory, name, lambda out: compiled(chosen, out))
        return out / f"library{chosen.suffix}"

    return library


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the conversion kernels of every host, if this machine is one."""
    if host_of_kernels() is None:
        pytest.skip("no kernels are made for this machine")

    def make(out: Path) -> None:
        for host in HOSTS:
            build_kernels(host, out / file_name(host), tmp_path_factory.mktemp("work"))

    return made_once(tmp_path_factory, "kernels", make)
