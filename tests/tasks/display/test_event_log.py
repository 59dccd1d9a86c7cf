"""build/log.jsonl of real runs: every line has the documented form, and no secret."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tasks.display.event_log import LARGE, EventLog, last_run
from tasks.display.events import Failed, Planned, Warned
from tests.tasks.toy import Project, Step

SCHEMA = Path(__file__).resolve().parents[3] / "docs/log.schema.json"
STEPS = {
    "a": Step("A", ["one.txt"]),
    "b": Step("B", ["a"]),
    "c": Step("C", ["a"], keep=1),
    "d": Step("D", ["b", "c"]),
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", tmp_path / "cache", dict(STEPS))
    (made.source / "one.txt").write_text("1")
    return made


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def lines(project: Project) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (project.root / "build/log.jsonl").read_text().splitlines()
    ]


def told(project: Project) -> list[tuple[Any, ...]]:
    """What the last run said, without what differs from run to run."""
    about = ("node", "state", "how", "result", "because", "message")
    return [
        (event["event"], *(event[name] for name in about if name in event))
        for event in last_run(project.root)
    ]


def test_a_build_step_by_step(project: Project) -> None:
    project.doit()
    assert told(project) == [
        ("run_started",),
        ("decided", "step:a", "stale"),
        ("decided", "step:b", "waiting"),
        ("decided", "step:c", "waiting"),
        ("decided", "step:d", "waiting"),
        *(
            event
            for name in "abcd"
            for event in (
                ("started", f"step:{name}"),
                ("finished", f"step:{name}", "built"),
            )
        ),
        ("run_ended", "succeeded"),
    ]
    finished = [event for event in last_run(project.root) if event["event"] == "finished"]
    assert [event["bytes"] for event in finished] == [2, 3, 1, 5]
    project.doit()
    assert told(project) == [("run_started",), ("run_ended", "succeeded")]


def test_what_need_not_run_after_all_is_decided_again(project: Project) -> None:
    project.doit()
    project.steps["c"] = Step("CXX", ["a"], keep=1)
    project.doit()
    assert told(project) == [
        ("run_started",),
        ("decided", "step:c", "stale"),
        ("decided", "step:d", "waiting"),
        ("started", "step:c"),
        ("finished", "step:c", "built"),
        ("decided", "step:d", "current"),
        ("run_ended", "succeeded"),
    ]


def test_a_failure(project: Project) -> None:
    project.steps["b"] = Step("B", ["a"], fail=True)
    project.doit("--continue")
    assert told(project)[-4:] == [
        ("started", "step:c"),
        ("finished", "step:c", "built"),
        ("not_run", "step:d", ["step:b"]),
        ("run_ended", "failed"),
    ]
    (failed,) = (event for event in last_run(project.root) if event["event"] == "failed")
    assert failed["message"] == "RuntimeError: told to fail"


@pytest.mark.parametrize("parallel", [[], ["-n", "2"], ["-n", "2", "-P", "thread"]])
def test_every_line_has_the_documented_form(
    project: Project, validator: jsonschema.Draft202012Validator, parallel: list[str]
) -> None:
    """Of runs in which there is everything, a warning and an upload but for."""
    project.steps["b"] = Step("B", ["a"], fail=True)
    project.steps["e"] = Step("E", ["a"], missing="e needs tool\nhint: install it")
    project.steps |= {f"m{i}": Step(f"[{i}]", ["a"], batch=True) for i in range(2)}
    project.doit("--continue", *parallel)
    project.steps["b"], project.steps["e"] = Step("B", ["a"]), Step("E", ["a"])
    project.doit("ignore", "step:e")
    project.doit(*parallel)
    project.steps["c"] = Step("CXX", ["a"], keep=1)
    project.doit(*parallel)
    project.doit("clean")
    project.doit(*parallel)
    found = lines(project)
    for line in found:
        validator.validate(line)
    kinds = {event["event"] for event in found}
    assert kinds == {
        "run_started", "decided", "started", "finished", "failed", "not_run", "ignored", "run_ended",
    }  # fmt: skip
    assert len({event["run"] for event in found}) == 4


def test_every_event_is_in_the_schema(validator: jsonschema.Draft202012Validator) -> None:
    described = {form["properties"]["event"]["const"] for form in validator.schema["oneOf"]}
    page = SCHEMA.with_name("log.md").read_text()
    assert all(f"`{name}`" in page for name in described)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({"v": 1, "run": "0" * 16, "time": 1.0, "event": "else"})


def test_a_large_log_is_put_aside_when_a_run_begins(project: Project) -> None:
    project.doit()
    path = project.root / "build/log.jsonl"
    before = path.read_bytes()
    path.write_bytes(before * (LARGE // len(before) + 1))
    project.doit()
    assert len(lines(project)) == 2
    assert path.with_name("log.1.jsonl").stat().st_size > LARGE


def test_two_runs_at_a_time_keep_their_lines_whole(tmp_path: Path) -> None:
    first, second = EventLog(tmp_path), EventLog(tmp_path)
    for log in (first, second):
        log.heed(Planned({}, 0, 1))
    for number in range(20):
        for log in (first, second):
            log.heed(Warned(f"{number} " + "x" * 5000))
    events = [json.loads(line) for line in (tmp_path / "build/log.jsonl").read_text().splitlines()]
    assert len(events) == 42
    assert len({event["run"] for event in events}) == 2


def test_no_login_and_no_signature_is_kept(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.heed(Planned({}, 0, 1))
    log.heed(Warned("https://user:word@cache.example.org/ac/1?sig=abc#x failed"))
    log.heed(Failed("a:b", "GET s3://k:s@host/x", hint="see 'https://host/y?token=t'"))
    text = (tmp_path / "build/log.jsonl").read_text()
    for secret in ("word", "abc", "k:s", "token"):
        assert secret not in text
    assert "https://cache.example.org/ac/1?… failed" in text
