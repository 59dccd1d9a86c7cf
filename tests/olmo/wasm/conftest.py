from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo.cli import _cache_directory
from olmo.verification.emulator import place
from olmo.wasm.packages import JS, has_packages, node
from olmo.wasm.runtime_cache import runtime


@pytest.fixture(scope="session")
def wasm_runtime() -> Iterator[Path]:
    """The web runtime, from the user's cache where it is there: it takes two minutes to make."""
    with runtime(_cache_directory() / "wasm-runtime") as directory:
        yield directory


@pytest.fixture(scope="session")
def node_program() -> list[str | Path]:
    """The command that runs libraries for the CPU in Node."""
    found = node()
    if found is None:
        pytest.skip("node is not installed")
    if not has_packages(place("web")):
        pytest.skip("the packages of npm are not installed: python3 bootstrap.py verify")
    return [found, JS / "node.mjs", place("web")]
