"""The real chain on a cluster: every byte as on this machine."""

from pathlib import Path

from tests.cache.servers import executor
from tests.clone import clone
from tests.first_build import FirstBuild

MATRIX = """
[models.m]
source = "local"
path = "checkpoint"
conv_template = "LM"

[[release]]
models = ["m"]
quantizations = ["q0f32"]
windows = [256]
targets = ["linux-x86_64-cpu"]
"""
REMOTE = {"kernels", "convert", "lower", "compile", "verify"}


def test_a_cluster_makes_the_same_bytes(first: FirstBuild, tmp_path: Path) -> None:
    here = clone(tmp_path / "here", first.store(tmp_path / "store-here"), MATRIX)
    assert here.build() == set()
    built = {name for name in first.built if ":olmo-tiny" not in name}
    (tmp_path / "cluster").mkdir()
    with executor(tmp_path / "cluster") as server:
        variables = {"OLMILL_REMOTE_EXECUTOR": server.address}
        there = clone(tmp_path / "there", tmp_path / "store-there", MATRIX, variables)
        assert there.build("-n", "4") == built
        assert there.dist() == here.dist()
        results = (server.files / "actioncache" / "objects").rglob("*")
        remote = {name for name in built if name.partition(":")[0] in REMOTE}
        assert len([path for path in results if path.is_file()]) == len(remote) == 6
        other = clone(tmp_path / "other", tmp_path / "store-other", MATRIX, variables)
        assert {name.partition(":")[0] for name in other.build("compile")}.isdisjoint(REMOTE)
        assert not list(other.root.rglob("params_shard_*.bin")), "no weights moved"
