"""The graph under doit, with quick actions: what runs, what is restored, what is left alone."""

import os
import shutil
from pathlib import Path

import pytest

from cache.local.stat_cache import StatCache
from tasks.run import SPINS
from tests.tasks.toy import Project, Step

DIAMOND = {
    "a": Step("A", ["one.txt"]),
    "b": Step("B", ["a"]),
    "c": Step("C", ["a"], keep=1),
    "d": Step("D", ["b", "c"]),
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project", tmp_path / "cache", dict(DIAMOND))
    (made.source / "one.txt").write_text("1")
    return made


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def test_a_build_makes_what_the_definition_says(project: Project) -> None:
    assert project.doit() == 0
    assert project.contents() == {"a": "A1", "b": "BA1", "c": "C", "d": "DBA1C"}
    assert project.executed() == {"a", "b", "c", "d"}


def test_outputs_are_read_only_links_of_the_store(project: Project) -> None:
    project.doit()
    status = project.output("a").stat()
    assert status.st_mode & 0o777 == 0o444
    assert status.st_nlink >= 2


def test_nothing_to_do_is_one_line(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.doit()
    capsys.readouterr()
    assert project.doit() == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("4 nodes: 4 local, 0 remote, 0 built (")
    assert project.executed() == set()


def test_a_parameter_reruns_its_node_and_what_reads_it(project: Project) -> None:
    project.doit()
    project.steps["b"] = Step("X", ["a"])
    project.doit()
    assert project.executed() == {"b", "d"}
    assert project.contents()["d"] == "DXA1C"


def test_equal_output_stops_there(project: Project) -> None:
    project.doit()
    project.steps["c"] = Step("CXX", ["a"], keep=1)
    project.doit()
    assert project.executed() == {"c"}


def test_a_source_reruns_what_reads_it(project: Project) -> None:
    project.doit()
    (project.source / "one.txt").write_text("2")
    project.doit()
    assert project.executed() == {"a", "b", "c", "d"}
    assert project.contents()["d"] == "DBA2C"


def test_going_back_runs_nothing(project: Project) -> None:
    project.doit()
    (project.source / "one.txt").write_text("2")
    project.doit()
    (project.source / "one.txt").write_text("1")
    project.doit()
    assert project.executed() == set()
    assert project.contents()["d"] == "DBA1C"


def test_same_size_and_times_other_content_is_noticed(project: Project) -> None:
    project.doit()
    path = project.source / "one.txt"
    before = path.stat()
    path.write_text("3")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    project.doit()
    assert project.contents()["a"] == "A3"


def test_touching_every_file_runs_nothing(project: Project) -> None:
    project.doit()
    for path in sorted(project.root.rglob("*")):
        path.touch()
    project.doit()
    assert project.executed() == set()


def test_comments_in_an_action_run_nothing(project: Project) -> None:
    project.doit()
    code = project.root / "toyactions/concat.py"
    code.write_text("# a comment\n" + code.read_text())
    project.doit()
    assert project.executed() == set()


@pytest.mark.parametrize(
    ("arguments", "set_to", "seen"),
    [([], None, "-"), (["-n", "1"], None, "-"), (["-n", "2"], None, "0"), (["-n", "2"], "9", "9")],
)
def test_nodes_beside_others_do_not_spin(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    set_to: str | None,
    seen: str,
) -> None:
    monkeypatch.delenv(SPINS, raising=False)
    if set_to is not None:
        monkeypatch.setenv(SPINS, set_to)
    project = Project(tmp_path / "p", tmp_path / "cache", {"a": Step("A")})
    code = project.root / "toyactions/concat.py"
    told = f"import os; text = os.environ.get({SPINS!r}, '')"
    code.write_text(code.read_text().replace('text = params["text"]', told))
    assert project.doit(*arguments) == 0
    assert project.contents() == {"a": seen}
    assert os.environ.get(SPINS) == set_to


@pytest.mark.parametrize(
    "gone", ["build", "build/step/b/out.txt", "build/receipts", "build/state.sqlite"]
)
def test_what_is_deleted_is_restored(project: Project, gone: str) -> None:
    project.doit()
    path = project.root / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert project.doit() == 0
    assert project.executed() == set()
    assert project.contents()["d"] == "DBA1C"


def test_an_edited_copy_is_restored(project: Project) -> None:
    project.doit()
    path = project.output("b")
    path.unlink()
    path.write_text("forged")
    project.doit()
    assert project.executed() == set()
    assert path.read_text() == "BA1"


def test_an_edit_through_the_link_is_noticed_and_rebuilt(project: Project) -> None:
    """The blob in the store is the same file: it is damaged, found out, and made again."""
    project.doit()
    path = project.output("b")
    path.chmod(0o644)
    path.write_text("BXX")
    assert project.doit() == 0
    assert project.executed() == {"b"}
    assert path.read_text() == "BA1"


@pytest.mark.parametrize("text", ["", "{", '{"outputs": {"../x": "y"}}', '{"outputs": {}}'])
def test_a_damaged_receipt_is_restored(project: Project, text: str) -> None:
    project.doit()
    (project.root / "build/receipts/step/b.json").write_text(text)
    assert project.doit() == 0
    assert project.executed() == set()
    assert project.contents()["d"] == "DBA1C"


def test_another_place_with_the_same_store_runs_nothing(project: Project, tmp_path: Path) -> None:
    project.doit()
    other = Project(tmp_path / "elsewhere", project.cache, dict(DIAMOND))
    (other.source / "one.txt").write_text("1")
    other.doit()
    assert other.executed() == set()
    assert other.contents() == project.contents()


def test_an_output_that_is_no_longer_made_is_removed(project: Project) -> None:
    extra = project.output("d").with_name("extra.log")
    project.steps["d"] = Step("D", ["b", "c"], extra=True)
    project.doit()
    assert extra.exists()
    project.steps["d"] = Step("D", ["b", "c"])
    project.doit()
    assert not extra.exists()


def test_failure_leaves_the_rest_undone(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.steps["b"] = Step("B", ["a"], fail=True)
    assert project.doit() == 1
    assert project.contents()["d"] is None
    shown = capsys.readouterr().err
    assert "FAILED step:b" in shown
    assert "RuntimeError: told to fail" in shown
    assert "again: doit step:b" in shown
    assert "build/logs/step/b.log" in shown
    assert "1 failed" in shown.splitlines()[-1]
    assert "told to fail" in (project.root / "build/logs/step/b.log").read_text()


def test_continue_builds_what_does_not_depend_on_a_failure(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.steps["b"] = Step("B", ["a"], fail=True)
    assert project.doit("--continue") == 1
    assert project.contents() == {"a": "A1", "b": None, "c": "C", "d": None}
    assert last_line(capsys).startswith("4 nodes: 0 local, 0 remote, 2 built, 1 failed, 1 not run")


def test_another_version_of_a_program_is_another_key(project: Project) -> None:
    project.steps["b"] = Step("B", ["a"], tool="1.0")
    project.doit()
    project.steps["b"] = Step("B", ["a"], tool="1.1")
    project.doit()
    assert project.executed() == {"b"}
    project.steps["b"] = Step("B", ["a"], tool="1.0")
    project.doit()
    assert project.executed() == set()


def test_a_missing_program_is_told_before_any_work(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.steps["b"] = Step("B", ["a"], missing="b needs tool\nhint: install it")
    assert project.doit() == 3
    told = capsys.readouterr().err
    assert "b needs tool\nhint: install it\n  needed by step:b\n" in told
    assert "doit --continue" in told
    assert project.contents() == {"a": None, "b": None, "c": None, "d": None}
    assert project.doit("--continue") == 1
    assert project.contents() == {"a": "A1", "b": None, "c": "C", "d": None}
    assert project.doit("step:c") == 0


@pytest.mark.parametrize(("signum", "hint"), [(9, "if memory ran out"), (10, "a defect of Olmill")])
def test_a_worker_that_is_killed_fails_its_node(
    project: Project, capsys: pytest.CaptureFixture[str], signum: int, hint: str
) -> None:
    code = project.root / "toyactions/concat.py"
    whole = code.read_text()
    killed = f"    if params['text'] == 'B':\n        import os; os.write(2, b'last words'); os.kill(os.getpid(), {signum})\n"
    code.write_text(whole.replace("    text = params", killed + "    text = params"))
    assert project.doit("-n", "2") == 2
    shown = capsys.readouterr().err
    name = {9: "SIGKILL", 10: "SIGUSR1"}[signum]
    assert f"  the process that it ran in was ended by {name}\n  | last words\n" in shown
    assert hint in shown
    assert f"error: a worker was ended by {name}, and the run with it" in shown
    code.write_text(whole)
    assert project.doit("-n", "2") == 0
    assert project.contents()["d"] == "DBA1C"


def test_failures_are_not_remembered(project: Project) -> None:
    project.steps["b"] = Step("B", ["a"], fail=True)
    project.doit("--continue")
    project.steps["b"] = Step("B", ["a"])
    assert project.doit() == 0
    assert project.executed() == {"b", "d"}


def test_forget_runs_a_task_again(project: Project) -> None:
    project.doit()
    assert project.doit("forget", "step:b") == 0
    project.doit()
    assert project.executed() == {"b"}
    project.doit()
    assert project.executed() == set()


def test_always_runs_everything_again(project: Project) -> None:
    project.doit()
    project.doit("-a")
    assert project.executed() == {"a", "b", "c", "d"}


def test_clean_removes_and_a_run_restores(project: Project) -> None:
    project.doit()
    assert project.doit("clean") == 0
    assert set(project.contents().values()) == {None}
    project.doit()
    assert project.executed() == set()
    assert project.contents()["d"] == "DBA1C"


def test_clean_dry_run_removes_nothing(project: Project) -> None:
    project.doit()
    project.doit("clean", "-n")
    assert project.contents()["d"] == "DBA1C"


def test_one_task_brings_what_it_reads(project: Project) -> None:
    assert project.doit("step:b") == 0
    assert project.executed() == {"a", "b"}


def test_list_status_propagates(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.doit()
    project.steps["b"] = Step("X", ["a"])
    capsys.readouterr()
    project.doit("list", "--all", "--status", "-q")
    states = dict(reversed(line.split()) for line in capsys.readouterr().out.splitlines())
    assert {name: states[f"step:{name}"] for name in "abcd"} == {
        "a": "U",
        "b": "R",
        "c": "U",
        "d": "R",
    }


def test_info_gives_the_reason(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.doit()
    project.steps["b"] = Step("X", ["a"])
    capsys.readouterr()
    project.doit("info", "step:b")
    assert "its key changed" in capsys.readouterr().out


@pytest.mark.parametrize("parallel", [["-n", "2"], ["-n", "2", "-P", "thread"]])
def test_parallel_builds_are_the_same(project: Project, parallel: list[str]) -> None:
    assert project.doit(*parallel) == 0
    assert project.contents()["d"] == "DBA1C"
    assert project.executed() == {"a", "b", "c", "d"}
    assert project.doit(*parallel) == 0
    assert project.executed() == set()


@pytest.mark.parametrize("parallel", [[], ["-n", "2"], ["-n", "2", "-P", "thread"]])
def test_how_far_an_action_is_can_be_seen_from_outside(
    project: Project, parallel: list[str]
) -> None:
    project.doit(*parallel)
    found = project.board.progress("step:b")
    assert found is not None
    assert (found.done, found.total) == (100, 100)


def test_a_source_that_changes_under_an_action_is_not_recorded(project: Project) -> None:
    actions = project.root / "toyactions"
    target = project.source / "one.txt"
    code = (actions / "concat.py").read_text()
    edit = f"    __import__('pathlib').Path({str(target)!r}).write_text('9')\n    text = params"
    (actions / "racing.py").write_text(code.replace("    text = params", edit, 1))
    current = project.graph()
    racing = {
        name: node if name != "step:a" else type(node)(
            node.name, "toyactions.racing", node.params, node.inputs, node.destination
        )
        for name, node in current.nodes.items()
    }  # fmt: skip
    project.graph = lambda: type(current)(racing, current.sources)  # type: ignore[method-assign]
    assert project.doit("step:a") == 1
    assert project.contents()["a"] is None


def test_no_temporary_file_is_left(project: Project) -> None:
    project.steps["b"] = Step("B", ["a"], fail=True)
    project.doit("--continue")
    project.steps["b"] = Step("B", ["a"])
    project.doit("-n", "2")
    assert list((project.root / "build/tmp").iterdir()) == []
    assert list((project.cache / "v1/tmp").iterdir()) == []


def test_a_missing_source_is_one_message(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(project.source)
    assert project.doit() != 0
    shown = capsys.readouterr().err
    assert "source:files: cannot read" in shown
    assert "Traceback" not in shown


def test_behind_equal_output_nothing_is_even_restored(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.steps["e"] = Step("E", ["d"])
    project.doit()
    project.steps["c"] = Step("CXX", ["a"], keep=1)
    capsys.readouterr()
    project.doit()
    touched = [line.split()[:2] for line in capsys.readouterr().err.splitlines()[1:-1]]
    assert touched == [["start", "step:c"], ["built", "step:c"]]


def test_an_emptied_store_does_not_undo_what_is_in_place(project: Project) -> None:
    project.doit()
    shutil.rmtree(project.cache)
    project.doit()
    assert project.executed() == set()
    project.steps["d"] = Step("X", ["b", "c"])
    assert project.doit() == 0
    assert project.executed() == {"d"}
    assert project.contents()["d"] == "XBA1C"


def test_garbage_in_the_action_cache_is_a_miss(project: Project) -> None:
    project.doit()
    for entry in (project.cache / "v1/ac").rglob("*"):
        if entry.is_file():
            entry.chmod(0o644)
            entry.write_bytes(b"garbage")
    shutil.rmtree(project.root / "build")
    assert project.doit() == 0
    assert project.executed() == {"a", "b", "c", "d"}


def test_a_truncated_blob_is_a_miss(project: Project) -> None:
    project.doit()
    blob = next(
        path
        for path in (project.cache / "v1/cas").rglob("*")
        if path.is_file() and path.read_bytes() == b"BA1"
    )
    shutil.rmtree(project.root / "build")
    blob.chmod(0o644)
    blob.write_bytes(b"B")
    assert project.doit() == 0
    assert project.executed() == {"b"}
    assert project.contents()["d"] == "DBA1C"


def test_only_what_is_read_of_a_source_is_hashed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.source / "big.txt").write_text("nobody reads this")
    hashed = []
    digest = StatCache.digest
    monkeypatch.setattr(
        StatCache, "digest", lambda self, path: hashed.append(Path(path).name) or digest(self, path)
    )
    project.doit()
    assert "one.txt" in hashed
    assert "big.txt" not in hashed


def test_a_run_that_may_build_nothing_says_what_it_would_build(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.doit("step:b")
    project.runs()
    capsys.readouterr()
    assert project.doit("--require-cached") == 3
    told = capsys.readouterr().err
    assert "2 of 4 nodes are in no cache:\n" in told
    assert "  step:c (never built here)\n  step:d (unknown until step:c is built)\n" in told
    assert "hint: " in told
    assert "Traceback" not in told
    assert project.runs() == 0
    assert project.doit("--require-cached", "step:b") == 0
    assert project.doit() == 0
    shutil.rmtree(project.root / "build")
    assert project.doit("--require-cached") == 0
    assert project.executed() == set()
    assert project.doit("--require-cached", "-a") == 3
    assert "asked to run again" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "status", "check", "run"])
def test_ctrl_c_before_anything_runs_is_one_line(
    project: Project,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.session.Session.decide", interrupt)
    monkeypatch.setattr("tasks.commands.check.compare", interrupt)
    assert project.doit(command, "step:a") == 130
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == ""
    assert shown[1].startswith("interrupted")
    assert len(shown) == 2
