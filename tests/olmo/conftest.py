"""Libraries that tests share: each compiled once per session, when a test first asks for it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from olmo.codecs.codec import file_name
from olmo.codecs.kernel_library import HOSTS, build_kernels
from olmo.codecs.kernels import host_of_kernels
from olmo.compilation.compile import compile_library
from olmo.configuration.compile_spec import CompileSpec
from olmo.configuration.config import OLMoConfig
from olmo.modeling.lower import lower
from olmo.quantizations import quantization
from olmo.target import symbol_prefix
from olmo.targets import target
from tests.olmo.libraries import GOLDEN, Built, build

Library = Callable[..., Built]
DeviceLibrary = Callable[[str], Path]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Return a golden checkpoint ("pub-a" or "pub-b") compiled with a quantization.

    Fields of the config may be overridden.
    """
    made: dict[tuple[object, ...], Built] = {}

    def library(checkpoint: str, quantization: str, **overrides: int) -> Built:
        key = (checkpoint, quantization, *sorted(overrides.items()))
        if key not in made:
            out = tmp_path_factory.mktemp(f"{checkpoint}-{quantization}")
            made[key] = build(GOLDEN / checkpoint, quantization, out, **overrides)
        return made[key]

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
    raw = json.loads((GOLDEN / "pub-b" / "config.json").read_bytes())
    spec = CompileSpec(OLMoConfig.from_huggingface(raw), quantization("q4f16_1"), 256)
    lowered: dict[str, tuple[bytes, bytes]] = {}
    made: dict[str, Path] = {}

    def library(name: str) -> Path:
        if name not in made:
            chosen = target(name)
            if chosen.kind not in lowered:
                lowered[chosen.kind] = lower(spec, chosen.kind)
            work = tmp_path_factory.mktemp(name)
            for part, data in zip(("module", "metadata"), lowered[chosen.kind], strict=True):
                (work / part).write_bytes(data)
            prefix = symbol_prefix("pub-b", "q4f16_1") if chosen.suffix == ".tar" else None
            made[name] = work / f"library{chosen.suffix}"
            compile_library(*lowered[chosen.kind], chosen, made[name], prefix, work=work)
        return made[name]

    return library


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the conversion kernels of every host, if this machine is one."""
    if host_of_kernels() is None:
        pytest.skip("no kernels are made for this machine")
    out = tmp_path_factory.mktemp("kernels")
    for host in HOSTS:
        build_kernels(host, out / file_name(host), tmp_path_factory.mktemp("work"))
    return out
