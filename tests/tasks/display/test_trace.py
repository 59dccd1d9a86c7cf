"""build/trace.json of real runs, held to the Trace Event Format."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.toy import Project, Step

PARALLEL = [[], ["-n", "2"], ["-n", "2", "-P", "thread"]]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    steps = {"a": Step("A", ["one.txt"]), "b": Step("B", ["a"]), "c": Step("C", ["a"])}
    made = Project(tmp_path / "project", tmp_path / "cache", steps)
    (made.source / "one.txt").write_text("1")
    return made


def events(project: Project) -> list[dict[str, Any]]:
    found = json.loads((project.root / "build/trace.json").read_text())
    assert set(found) == {"displayTimeUnit", "traceEvents"}
    events: list[dict[str, Any]] = found["traceEvents"]
    return events


@pytest.mark.parametrize("parallel", PARALLEL)
def test_it_is_in_the_format(project: Project, parallel: list[str]) -> None:
    project.steps["d"] = Step("D", ["a"], fail=True)
    project.doit("--continue", *parallel)
    fields = {
        "M": ["name", "ph", "pid", "tid", "args"],
        "X": ["name", "cat", "ph", "ts", "dur", "pid", "tid", "args"],
        "i": ["name", "cat", "ph", "ts", "s", "pid", "tid", "args"],
    }
    found = events(project)
    assert {event["ph"] for event in found} == set(fields)
    for event in found:
        assert list(event) == fields[event["ph"]]
        numbers = [event[name] for name in ("pid", "tid", "ts", "dur") if name in event]
        assert all(isinstance(number, int) and number >= 0 for number in numbers)
    named = {(e["name"], e["tid"]) for e in found if e["ph"] == "M"}
    assert all(("thread_name", event["tid"]) in named for event in found)
    assert len({event["pid"] for event in found}) == 1
    times = [event["ts"] for event in found if "ts" in event]
    assert times == sorted(times)


@pytest.mark.parametrize("parallel", PARALLEL)
def test_each_node_is_a_slice_on_the_lane_where_it_ran(
    project: Project, parallel: list[str]
) -> None:
    project.doit(*parallel)
    slices = {event["name"]: event for event in events(project) if event["ph"] == "X"}
    assert set(slices) == {"decide", "step:a", "step:b", "step:c"}
    args = slices["step:b"]["args"]
    assert (args["how"], args["bytes"]) == ("built", 3)
    assert len(args["key"]) == 64
    ends = slices["step:a"]["ts"] + slices["step:a"]["dur"]
    assert all(slices[name]["ts"] >= ends for name in ("step:b", "step:c"))
    lanes = Counter(slices[f"step:{name}"]["tid"] for name in "abc")
    assert (slices["decide"]["tid"] in lanes) == (not parallel)
    assert len(lanes) <= 2


@pytest.mark.parametrize("parallel", PARALLEL)
def test_unfolded_no_slice_hides_another(project: Project, parallel: list[str]) -> None:
    """On each lane one slice is over when the next begins, whatever becomes of nodes."""
    project.steps |= {
        **{f"batch{text}": Step(text, ["a"], batch=True) for text in "XYZ"},
        "fails": Step("F", ["a"], fail=True),
        "waits": Step("W", ["fails"]),
        "restored": Step("R"),
    }
    project.doit("step:restored")
    shutil.rmtree(project.root / "build")
    project.doit("--continue", *parallel)
    found = events(project)
    drawn = {event["name"] for event in found if event["ph"] == "X"}
    assert drawn == {"decide", *(f"step:{name}" for name in project.steps if name != "waits")}
    names = {
        event["tid"]: event["args"]["name"] for event in found if event["name"] == "thread_name"
    }
    order = [event["args"]["sort_index"] for event in found if event["name"] == "thread_sort_index"]
    assert order == list(range(len(names)))
    assert len(set(names.values())) == len(names)
    assert names[next(event["tid"] for event in found if event["name"] == "decide")] == "doit"
    for lane in names:
        own = [event for event in found if event["ph"] == "X" and event["tid"] == lane]
        ends = [event["ts"] + event["dur"] for event in own]
        assert all(end <= after["ts"] for end, after in zip(ends, own[1:], strict=False))


def test_a_run_without_work_leaves_that_of_the_last_build(project: Project) -> None:
    project.doit()
    before = (project.root / "build/trace.json").read_bytes()
    project.doit()
    assert (project.root / "build/trace.json").read_bytes() == before
    project.doit("-a")
    assert (project.root / "build/trace.json").read_bytes() != before
    assert not list((project.root / "build").glob("*.tmp"))
