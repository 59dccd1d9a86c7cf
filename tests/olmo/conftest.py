"""Libraries that tests share: each compiled once per session, when a test first asks for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from olmo.codec import file_name
from olmo.kernel_library import build_kernels
from olmo.kernels import host_of_kernels
from tests.olmo.libraries import GOLDEN, Built, build

Library = Callable[[str, str], Built]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Return a golden checkpoint ("pub-a" or "pub-b") compiled with a quantization."""
    made: dict[tuple[str, str], Built] = {}

    def library(checkpoint: str, quantization: str) -> Built:
        key = (checkpoint, quantization)
        if key not in made:
            out = tmp_path_factory.mktemp(f"{checkpoint}-{quantization}")
            made[key] = build(GOLDEN / checkpoint, quantization, out)
        return made[key]

    return library


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the conversion kernels for this machine, where there are some."""
    host = host_of_kernels()
    if host is None:
        pytest.skip("no kernels are made for this machine")
    out = tmp_path_factory.mktemp("kernels")
    build_kernels(host, out / file_name(host), tmp_path_factory.mktemp("work"))
    return out
