"""How much memory there is, as Linux says it, and whether a library may be run in it."""

from pathlib import Path

import pytest

from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from olmo.json_file import read_json
from olmo.quantizations import QUANTIZATIONS
from olmo.verification import memory
from tests.clone import PUB_A

MIB = 1 << 20
HERE = 300 * MIB  # what Python and TVM take of it


class Machine:
    """What the kernel says of its memory, as files."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        for name, place in (("_MEMINFO", "meminfo"), ("_OWN_GROUPS", "own"), ("_GROUPS", "groups")):
            patch.setattr(memory, name, root / place)
        self.says(meminfo=f"MemTotal: 999999999 kB\nMemAvailable:  {8192 << 10} kB\n")

    def says(self, **files: str) -> None:
        for name, text in files.items():
            (self.root / name).write_text(text)

    def group(self, path: str, **files: object) -> None:
        place = self.root / "groups" / path
        place.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (place / f"memory.{name}").write_text(f"{value}\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_without_control_groups_it_is_the_machine_s_with_swap(machine: Machine) -> None:
    assert memory.available() == 8192 * MIB
    machine.says(meminfo="MemAvailable: 1024 kB\nSwapFree: 2048 kB\nHugePages_Free: 3\n")
    assert memory.available() == 3 * MIB


@pytest.mark.parametrize("text", [None, "", "MemTotal: 8 kB\nMemFree: 4 kB\n"])
def test_it_may_be_unknown(machine: Machine, text: str | None) -> None:
    (machine.root / "meminfo").unlink()
    if text is not None:
        machine.says(meminfo=text)
    machine.group("", max=MIB, current=0)
    assert memory.available() is None
    memory.check_memory(config(), QUANTIZATIONS["q0f32"])  # and then nothing is refused


def test_a_container_has_what_its_group_leaves(machine: Machine) -> None:
    machine.says(own="0::/\n")
    machine.group("", max=2048 * MIB, current=512 * MIB, stat="anon 0")
    assert memory.available() == 1536 * MIB
    machine.group("", current=4096 * MIB)  # a limit that was lowered
    assert memory.available() == 0
    machine.group("", max="max")
    assert memory.available() == 8192 * MIB


def test_files_that_a_group_holds_are_given_back(machine: Machine) -> None:
    """After a conversion the page cache fills a container up to its limit."""
    held = f"anon {100 * MIB}\ninactive_file {600 * MIB}\nactive_file {200 * MIB}\n"
    held += f"shmem {50 * MIB}\nslab_reclaimable {74 * MIB}"
    machine.group("", max=1024 * MIB, current=1024 * MIB, stat=held)
    assert memory.available() == 874 * MIB


def test_each_group_around_the_own_one_counts(machine: Machine) -> None:
    machine.says(own="1:name=systemd:/elsewhere\n0::/user.slice/run.scope\n")
    machine.group("user.slice/run.scope", max=900 * MIB, current=100 * MIB)
    assert memory.available() == 800 * MIB
    machine.group("user.slice", max=1000 * MIB, current=700 * MIB)
    assert memory.available() == 300 * MIB
    machine.group("elsewhere", max=1, current=0)
    assert memory.available() == 300 * MIB


def test_version_1_of_control_groups(machine: Machine) -> None:
    machine.says(own="5:cpu,memory:/docker/abc\n0::/\n")
    held = f"inactive_file 1\ntotal_inactive_file {40 * MIB}\ntotal_active_file {2 * MIB}"
    machine.group("memory", limit_in_bytes=1000 * MIB, usage_in_bytes=900 * MIB, stat=held)
    assert memory.available() == 142 * MIB  # of the container: its path is the host's
    machine.group("memory/docker/abc", limit_in_bytes=2**63 - 4096, usage_in_bytes=MIB)
    assert memory.available() == 142 * MIB


def config() -> OLMoConfig:
    return OLMoConfig.from_huggingface(read_json(PUB_A / "config.json"))


@pytest.mark.parametrize(("quantization", "bits"), [("q4f16_1", 4.5), ("q0f16", 16), ("q0f32", 32)])
def test_it_takes_the_weights_and_the_largest_matrix_of_the_reference(
    quantization: str, bits: float
) -> None:
    matrix = 64 * 320  # the embedding
    layer = 4 * 64 * 64 + 3 * 64 * 160
    stored = int((2 * matrix + 2 * layer) * bits / 8)
    assert memory.needed(config(), QUANTIZATIONS[quantization]) == HERE + stored + 12 * matrix


def test_a_library_that_fits_exactly_is_run(machine: Machine) -> None:
    wanted = memory.needed(config(), QUANTIZATIONS["q0f32"])
    machine.group("", max=wanted, current=0)
    memory.check_memory(config(), QUANTIZATIONS["q0f32"])
    machine.group("", max=wanted - 1)
    with pytest.raises(OlmoError, match=r"q0f32 to verify it takes about 0\.3 GiB") as refused:
        memory.check_memory(config(), QUANTIZATIONS["q0f32"])
    assert "doit gen_config convert compile" in (refused.value.hint or "")
