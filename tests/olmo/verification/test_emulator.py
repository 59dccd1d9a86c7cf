"""Programs on an emulated machine: a script that runs this Python; and once the real one."""

import json
import sys
from pathlib import Path

import pytest

from olmo.errors import OlmoError
from olmo.targets import target
from olmo.verification.emulator import DESCRIPTION, SITE, place, read_machine, run_emulated
from olmo.verification.report import verified_text
from olmo.verification.verify import verify
from tasks.actions import emulate
from tasks.node import Source
from tasks.verification import find
from tests.olmo.conftest import DeviceLibrary, Library
from tests.olmo.libraries import model_directory

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a machine whose emulator is given the root and the Python of the machine."""
    root = tmp_path / "machine"
    root.mkdir()
    emulator = root / "emulator"
    emulator.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3" = "-L {root} {root}/python" ] || exit 9\n'
        f'shift 3\nexec {sys.executable} "$@"\n'
    )
    emulator.chmod(0o755)
    description = {
        "emulator": "emulator",
        "version": "script 1",
        "python": "python",
        "packages": {"numpy": "2"},
        "system": {"libc6": "1"},
    }
    (root / DESCRIPTION).write_text(json.dumps(description))
    return root


def test_a_program(machine: Path, tmp_path: Path) -> None:
    code = "import os, json; json.dump(dict(os.environ), open('seen.json', 'w'))"
    found = run_emulated(machine, ["-c", code], Path("/modules"), tmp_path)
    assert found == read_machine(machine)
    assert found.version == "script 1"
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["PYTHONPATH"] == f"{machine / SITE}:/modules"
    assert seen["TVM_USE_RUNTIME_LIB"] == "1"
    assert "PATH" not in seen
    assert "HOME" not in seen


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ValueError('the reason')", "under emulation: ValueError: the reason"),
        ("from olmo.errors import OlmoError; raise OlmoError('mistake')", "emulation: mistake"),
        ("import os; os._exit(3)", "under emulation: ended with 3"),
        ("import os; os.kill(os.getpid(), 11)", "under emulation: killed by signal 11"),
    ],
)
def test_a_program_that_fails(machine: Path, tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(OlmoError, match=message):
        run_emulated(machine, ["-c", code], ROOT, tmp_path)


def test_a_program_that_hangs(machine: Path, tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match="not finished after 0 s"):
        run_emulated(machine, ["-c", "while True: pass"], tmp_path, tmp_path, limit=0.01)


def test_no_machine(tmp_path: Path) -> None:
    assert read_machine(tmp_path) is None
    with pytest.raises(OlmoError, match="there is no emulated machine"):
        run_emulated(tmp_path, [], tmp_path, tmp_path)


def test_tools_are_in_the_python_environment() -> None:
    assert place("aarch64", Path("/venv")) == Path("/venv/share/olmill/aarch64")
    assert place("aarch64").is_relative_to(sys.prefix)


def test_a_library_on_the_emulated_machine(
    built: Library, device_library: DeviceLibrary, tmp_path: Path
) -> None:
    found = find("aarch64")
    if not isinstance(found, Source):
        pytest.skip(found.what)
    library = built("pub-b", "q4f16_1")
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    outputs.mkdir()
    model_directory(library, inputs / "model")
    for name, path in (
        ("library/library.so", device_library("linux-aarch64-cpu")),
        (f"aarch64/{DESCRIPTION}", found.root / DESCRIPTION),
    ):
        (inputs / name).parent.mkdir()
        (inputs / name).symlink_to(path)
    params = {
        "target": json.loads(target("linux-aarch64-cpu").to_json()),
        "system_lib_prefix": None,
        "quantization": library.spec.quantization.to_json(),
        "missing": None,
    }
    emulate.run(params, inputs, outputs)
    report = json.loads((outputs / "report.json").read_bytes())
    native = verify(inputs / "model", library.library, library.spec.quantization, None)
    assert verified_text(report).startswith("executed under qemu-aarch64 ")
    assert report["accuracy"]["same_likeliest_token"]
    assert set(report["accuracy"]) == set(native["accuracy"])
    assert report["accuracy"]["logits_within"] <= 1e-2
    assert "a shared library in ELF for aarch64 that loads libm.so.6, libc.so.6" in report["checks"]
