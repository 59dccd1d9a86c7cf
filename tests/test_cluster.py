"""The real chain on a cluster: every byte as on this machine."""

from pathlib import Path

from tests.cache.servers import executor
from tests.clone import clone

MATRIX = """
[models.m]
source = "local"
path = "checkpoint"
conv_template = "LM"

[[release]]
models = ["m"]
quantizations = ["q4f16_1"]
windows = [256]
targets = ["linux-x86_64-cpu"]
"""
REMOTE = {"kernels", "convert", "lower", "compile", "verify"}


def test_a_cluster_makes_the_same_bytes(tmp_path: Path) -> None:
    here = clone(tmp_path / "here", tmp_path / "store-here", MATRIX)
    built = here.build("-n", "2")
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
