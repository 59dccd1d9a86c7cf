"""How hard property tests try: the same examples each time, so that a change breaks what it broke.
With OLMILL_FUZZ=N each tries N others, and cut tests cut everywhere.

And how threads of TVM and of numpy's BLAS wait: asleep, or not at all where there is one. By default they spin
after every kernel (TVM's 300,000 times) and every product, which takes from the tests beside them the
processor that they share. And that SIGINT reaches what tests start, also
where a shell has started pytest in the background, which ignores it.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from tests import first_build
from tests.first_build import FirstBuild
from tests.made_once import made_once

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", "0")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before anything imports numpy

# Files that take longest, the longest first: with short ones at the end no worker waits for another.
# Files that need the same build are apart, so that neither do workers wait for one to make it.
LONGEST = (
    "tests/olmo/wasm/test_engine.py",
    "tests/test_executed_sets.py",
    "tests/olmo/modeling/test_quantized_layers.py",
    "tests/olmo/test_device_libraries.py",
    "tests/test_reproducible.py",
    "tests/test_style.py",
    "tests/test_release.py",
    "tests/olmo/modeling/test_rope.py",
    "tests/test_answers.py",
    "tests/olmo/compilation/test_cpu_schedule.py",
    "tests/tasks/test_shared_builds.py",
    "tests/olmo/verification/test_library_check.py",
    "tests/test_cluster.py",
    "tests/olmo/generation/test_runtime.py",
    "tests/cache/local/test_store_faults.py",
    "tests/olmo/test_cli.py",
    "tests/olmo/verification/test_emulator.py",
    "tests/tasks/test_local_sources.py",
    "tests/olmo/compilation/test_compile.py",
    "tests/test_bad_input.py",
    "tests/olmo/modeling/test_lower.py",
    "tests/tasks/test_random_graphs.py",
    "tests/olmo/codecs/test_kernel_library.py",
    "tests/tasks/test_killed.py",
    "tests/docs/test_errors.py",
    "tests/olmo/verification/test_verify.py",
)

# How long examples take depends on what else runs.
TOO_SLOW = [HealthCheck.too_slow]
settings.register_profile("olmill", deadline=None, derandomize=True, suppress_health_check=TOO_SLOW)
settings.load_profile("olmill")
if "OLMILL_FUZZ" in os.environ:
    settings.register_profile(
        "fuzz",
        derandomize=False,
        max_examples=int(os.environ["OLMILL_FUZZ"]),
        suppress_health_check=TOO_SLOW,
    )
    settings.load_profile("fuzz")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> FirstBuild:
    return FirstBuild(made_once(tmp_path_factory, "first-build", first_build.build))
