"""The real chain, built once in a run: for tests of what comes after."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.clone import Clone, clone

MATRIX = """
[models.m]
source = "local"
path = "checkpoint"
conv_template = "LM"

[models.olmo-tiny]
source = "embedded"

[[release]]
models = ["m"]
quantizations = ["q0f32"]
windows = [256]
targets = ["linux-x86_64-cpu"]

[[release]]
models = ["olmo-tiny"]
quantizations = ["q4f16_1"]
windows = [256]
targets = ["linux-x86_64-cpu"]
"""


@dataclass(frozen=True)
class FirstBuild:
    """A project of `MATRIX` in which all is built; tests copy its stores and change nothing."""

    root: Path

    @property
    def project(self) -> Clone:
        return Clone(self.root / "project", self.root / "store")

    @property
    def built(self) -> set[str]:
        """The nodes whose action ran."""
        return set(json.loads((self.root / "built.json").read_bytes()))

    def store(self, place: Path) -> Path:
        """Copy the store, which holds everything of the matrix, to a place."""
        return shutil.copytree(self.root / "store", place)

    def kernels(self, place: Path) -> Path:
        """Copy the store as it was when it held the kernels of conversion alone."""
        return shutil.copytree(self.root / "kernels", place)


def build(root: Path) -> None:
    """Fill the directory of a `FirstBuild`."""
    settings = {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C", "USER": "a"}
    project = clone(root / "project", root / "store", MATRIX, settings)
    kernels = project.build("kernels")
    shutil.copytree(project.cache, root / "kernels")
    built = kernels | project.build("-n", "2", "-P", "thread")
    (root / "built.json").write_text(json.dumps(sorted(built)))
