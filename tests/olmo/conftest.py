"""Libraries that tests share: each compiled once per session, when a test first asks for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from olmo.codec import file_name
from olmo.kernel_library import HOSTS, build_kernels
from olmo.kernels import host_of_kernels
from tests.olmo.libraries import GOLDEN, Built, build

Library = Callable[..., Built]


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
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the conversion kernels of every host, if this machine is one."""
    if host_of_kernels() is None:
        pytest.skip("no kernels are made for this machine")
    out = tmp_path_factory.mktemp("kernels")
    for host in HOSTS:
        build_kernels(host, out / file_name(host), tmp_path_factory.mktemp("work"))
    return out
