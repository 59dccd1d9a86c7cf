"""Libraries that tests share: each compiled once per session, when a test first asks for it."""

from collections.abc import Callable

import pytest

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
