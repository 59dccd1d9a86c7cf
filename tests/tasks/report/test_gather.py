"""What a report says of a project is what is there."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doit.dependency import Dependency

from cache.digest import Digest
from cache.memory import MemoryTransport
from cache.remote.store import RemoteStore
from tasks.durations import durations
from tasks.node import Node
from tasks.report.gather import cells, release
from tasks.report.releases import Release
from tasks.session import record
from tasks.state import StateDB
from tests.tasks.report.filled import CHECKED, EXECUTED, MATRIX, SECONDS, Filled

LINUX, WINDOWS = "linux-x86_64-cpu", "windows-x86_64-cpu"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    base = tmp_path_factory.mktemp("built")
    made = Filled(base / "project", base / "cache")
    made.fill()
    assert made.doit() == 0
    return made


def reported(project: Filled) -> Release:
    """Return the report on a project as `doit report` makes it."""
    current = project.session()
    state = Dependency(StateDB, str(project.root / "build/state.sqlite"))
    try:
        current.decide(state.get_values)
        seconds = durations(current, state.backend)
        return release(current, lambda name: record(state.get_values(name)), seconds)
    finally:
        state.close()


def emptied(built: Filled, base: Path, **options: Any) -> Filled:
    """Return a project with nothing in its store but what is known of the files of the code."""
    cache = base / "cache"
    shutil.copytree(built.cache, cache, ignore=shutil.ignore_patterns("ac", "cas"))
    return Filled(base / "project", cache, **options)


def test_what_is_built_is_told_in_full(built: Filled) -> None:
    found = reported(built)
    assert [cell.row for cell in found.cells] == [
        *[("olmo-tiny", "q0f32", "256")] * 2,
        *[("olmo-tiny", "q4f16_1", "256")] * 2,
    ]
    assert found.targets == (LINUX, WINDOWS)
    cell = found.cells[0]
    assert (cell.state, cell.reason, cell.library, cell.weights) == ("built", "", 7, 7)
    assert cell.verified is not None
    assert (cell.verified["how"], found.cells[1].verified) == (EXECUTED["how"], CHECKED)
    assert cell.key is not None
    assert cell.seconds == SECONDS * len(cell.nodes) == SECONDS * 9
    for path in cell.files.values():
        assert (built.root / "dist" / path).is_file()
    assert list(cell.files) == ["library", "manifest", "configuration", "weights", "provenance"]


def test_conversions_and_steps_are_told_once(built: Filled) -> None:
    found = reported(built)
    assert [(c.model, c.quantization) for c in found.conversions] == [
        ("olmo-tiny", "q0f32"),
        ("olmo-tiny", "q4f16_1"),
    ]
    assert len(found.steps) == len({step.name for step in found.steps}) == 21
    assert {(step.state, step.seconds) for step in found.steps} == {("current", SECONDS)}


def test_all_nodes_are_gone_through_once_and_not_for_each_row(built: Filled) -> None:
    """Of 28,800 rows with nine nodes each that would be minutes."""
    times: list[None] = []

    class Counted(dict[str, Node]):
        def __iter__(self) -> Iterator[str]:
            times.append(None)
            return super().__iter__()

    current = built.session()
    graph = current.workspace.graph
    current.workspace = replace(current.workspace, graph=replace(graph, nodes=Counted(graph.nodes)))
    found = cells(current, {name for name in graph.nodes if name.startswith("package:")})
    assert len(found) == 4
    assert all(cell.nodes[-1] == f"package:{':'.join(cell.row)}:{cell.target}" for cell in found)
    assert len(times) == 1


def test_equal_states_have_equal_reports(built: Filled) -> None:
    assert reported(built) == reported(built)


def test_what_the_store_has_is_told_before_it_is_fetched(built: Filled, tmp_path: Path) -> None:
    found = reported(Filled(tmp_path / "project", built.cache))
    assert {cell.state for cell in found.cells} == {"cached"}
    known = reported(built)
    assert [cell.verified for cell in found.cells] == [cell.verified for cell in known.cells]
    assert [cell.key for cell in found.cells] == [cell.key for cell in known.cells]
    assert found.conversions == known.conversions
    assert {len(cell.files) for cell in found.cells} == {0}
    assert not (tmp_path / "project/dist").exists()


def test_of_a_shared_cache_manifests_are_read_alone(built: Filled, tmp_path: Path) -> None:
    transport = MemoryTransport()
    remote = RemoteStore(transport)
    store = built.session().workspace.store
    for key in keys(built):
        result = store.get_result(key)
        assert result is not None
        for digest in result.outputs.values():
            with store.blob_path(digest).open("rb") as blob:
                remote.upload(digest, blob)
        remote.put_result(key, result)
    taker = emptied(built, tmp_path, remote=lambda: remote)
    found = reported(taker)
    assert {cell.state for cell in found.cells} == {"remote"}
    assert [cell.verified for cell in found.cells] == [c.verified for c in reported(built).cells]
    blobs = [path.name for path in (taker.cache / "v1/cas").glob("*/*")]
    assert len(blobs) <= 3  # two manifests and the report of a conversion, and none of the rest


def keys(project: Filled) -> list[Digest]:
    decided = project.session().decide(lambda _: {})
    return [one.keyed.key for one in decided.values() if one.keyed]


def test_what_is_nowhere_is_unknown(built: Filled, tmp_path: Path) -> None:
    found = reported(emptied(built, tmp_path))
    assert {(cell.state, cell.library, cell.verified) for cell in found.cells} == {
        ("not built", None, None)
    }
    assert all(cell.reason.startswith("unknown until ") for cell in found.cells)
    assert found.conversions == ()


def test_of_a_stale_row_the_earlier_build_is_told(built: Filled, tmp_path: Path) -> None:
    project = Filled(tmp_path / "project", built.cache)
    project.doit()
    before = reported(project).cells[0]
    project.matrix = MATRIX.replace('"embedded"', '"embedded"\nconv_template = "LM"')
    after = reported(project).cells[0]
    assert (after.state, after.key, after.library) == ("stale", before.key, before.library)
    assert after.files == before.files


def test_a_damaged_manifest_is_not_believed(built: Filled, tmp_path: Path) -> None:
    project = emptied(built, tmp_path, report=lambda _: {"state": "good"})
    project.fill()
    assert {cell.verified for cell in reported(project).cells} == {None}


def test_a_project_without_a_matrix_has_no_rows(built: Filled) -> None:
    current = built.session()
    current.matrix = None
    current.decide(lambda _: {})
    assert release(current, lambda _: None, {}).cells == ()
