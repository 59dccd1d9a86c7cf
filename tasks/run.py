"""`doit run`: doit's runners around our nodes.

doit decides the order and the parallelism. Before anything runs, the whole selection is assessed
and the plan announced; after each node, its success is in the database.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from doit import cmd_run
from doit.control import TaskControl
from doit.exceptions import InvalidCommand, UnmetDependency
from doit.runner import ERROR, MRunner, MThreadRunner, Runner
from doit.task import Stream

from cache.digest import parse
from cache.errors import CacheError
from tasks import provenance
from tasks.assess import NOT_CACHED, State
from tasks.graph import message
from tasks.session import Session
from tasks.state import ACTION, DISTRUSTED, DURATION, FORGOTTEN, MADE, NOTICES
from tasks.workspace import sweep

INTERRUPTED = 130


class NodeRunner(Runner):  # type: ignore[misc]  # doit has no type information
    """What every kind of runner adds: the plan before, the record after each node."""

    session: Session
    asked: tuple[str, ...] = ()
    dist: bool = True
    cached_only: bool = False
    final_result: int
    _interrupted = False

    def run_all(self, task_dispatcher: Any) -> int:
        """Assess the selection, announce the plan, run."""
        session, tasks = self.session, task_dispatcher.tasks
        names = [name for name in tasks if name in session.workspace.graph.nodes]
        selected = _closure(tasks, task_dispatcher.selected_tasks)
        chosen = [name for name in names if name in selected]
        session.rebuild = {
            name
            for name in chosen
            if self.always_execute or self.dep_manager.backend.get(name, FORGOTTEN)
        }
        session.cached_only = self.cached_only
        session.begin(self.dep_manager.get_values, chosen, self.asked, dist=self.dist)
        if self.cached_only:
            self._tell(session.workspace.shared.warnings())
            _check_cached(session)
        if not self.continue_:
            _check_toolchains(session, chosen)
        sweep(session.workspace)
        if hasattr(self.reporter, "planned"):
            self.reporter.planned(session)
        try:
            code = int(super().run_all(task_dispatcher))
            recorded = self.dep_manager.get_values
            provenance.write(session, lambda name: recorded(name).get("key"), chosen)
        finally:
            session.workspace.store.stat.flush()
        return code

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run; an interruption leaves what is not uploaded yet."""
        try:
            super().run_tasks(task_dispatcher)
        except KeyboardInterrupt:
            self._interrupted = True
            raise

    def finish(self) -> int:
        """End the run when the last upload has."""
        shared = self.session.workspace.shared
        try:
            if hasattr(self.reporter, "uploading") and not self._interrupted:
                self.reporter.uploading(shared.pending())
            shared.finish(abandon=self._interrupted)
        except CacheError as error:
            self.final_result = self.final_result or ERROR
            self.reporter.runtime_error(message(error))
        shared.close()
        self._tell(shared.warnings())
        return int(super().finish())

    def _handle_task_error(self, node: Any, base_fail: Any) -> None:
        """Let a node that waits for a failed one not turn doit's "failed" (1) into "error" (2)."""
        before = self.final_result
        super()._handle_task_error(node, base_fail)
        if isinstance(base_fail, UnmetDependency):
            self.final_result = before

    def process_task_result(self, node: Any, base_fail: Any) -> None:
        """Keep what explains and estimates, the node's Action and its time, apart from the rest."""
        task, shared = node.task, self.session.workspace.shared
        for key in task.values.pop(MADE, ()):
            shared.push(parse(key))
        for cause, keys in task.values.pop(DISTRUSTED, {}).items():
            shared.distrust(cause, keys)
        self._tell(task.values.pop(NOTICES, ()))
        fields = task.values.pop(ACTION, None)
        if fields is not None:
            task.result = None
            self.dep_manager.backend.set(task.name, ACTION, fields)
        ran = task.values.pop(DURATION, None)
        if ran is not None:
            self.dep_manager.backend.set(task.name, DURATION, round(ran, 3))
        super().process_task_result(node, base_fail)

    def _tell(self, notices: Iterable[str]) -> None:
        if hasattr(self.reporter, "notice"):
            for text in notices:
                self.reporter.notice(text)


def _check_toolchains(session: Session, names: Iterable[str]) -> None:
    """Refuse a run that could not finish, before it begins.

    Raises InvalidCommand naming the nodes, and how the others can be built.
    """
    nodes = session.workspace.graph.nodes
    lacking: dict[str, list[str]] = {}
    for name in names:
        why = nodes[name].missing
        if why is not None and session.decided[name].state is not State.CURRENT:
            lacking.setdefault(why, []).append(name)
    if lacking:
        told = [f"{why}\n  needed by {', '.join(found)}" for why, found in lacking.items()]
        others = "to build what needs none of this: doit --continue, or select tasks"
        raise InvalidCommand("\n".join([*told, others]))


def _check_cached(session: Session) -> None:
    """Refuse a run that would have to build something, before it begins.

    Raises InvalidCommand naming the nodes, and why each would be built.
    """
    lacking = {
        name: assessed.reason
        for name, assessed in session.decided.items()
        if assessed.state in NOT_CACHED
    }
    if lacking:
        heading = f"{len(lacking)} of {len(session.decided)} nodes are in no cache"
        told = [f"  {name} ({reason})" for name, reason in lacking.items()]
        hint = "hint: build them where the cache is written to, or leave out --require-cached"
        raise InvalidCommand("\n".join([f"{heading}:", *told, hint]))


class SerialRunner(NodeRunner):
    """One node at a time, in this process."""


class ProcessRunner(NodeRunner, MRunner):  # type: ignore[misc]  # doit has no type information
    """Nodes in forked children, which end when this process does."""

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run, without sharing connections with the children."""
        self.session.workspace.shared.close()
        super().run_tasks(task_dispatcher)

    def execute_task_subprocess(self, job_q: Any, result_q: Any, reporter_class: Any) -> None:
        """Run tasks in a child until there are no more, or the parent is gone."""
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
        try:
            super().execute_task_subprocess(job_q, result_q, reporter_class)
        finally:  # what it learned of files is not written by itself when a worker ends
            self.session.workspace.store.stat.flush()


class ThreadRunner(NodeRunner, MThreadRunner):  # type: ignore[misc]  # doit has no type information
    """Nodes in threads of this process."""


def _end_with(parent: int) -> None:
    """End this process when `parent` ends: a killed build leaves no worker waiting forever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _closure(tasks: Any, selected: Any) -> set[str]:
    pending, seen = list(selected or tasks), set[str]()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending.extend(tasks[name].task_dep)
    return seen


REQUIRE_REMOTE = {
    "name": "require_remote",
    "long": "require-remote",
    "type": bool,
    "default": False,
    "help": "fail if the remote cache cannot be read or written, instead of warning",
}
REQUIRE_CACHED = {
    "name": "require_cached",
    "long": "require-cached",
    "type": bool,
    "default": False,
    "help": "fail before anything runs if a node would have to be built",
}
NO_DIST = {
    "name": "no_dist",
    "long": "no-dist",
    "type": bool,
    "default": False,
    "help": "leave in the remote cache what it has of dist/, unless a task is asked for by name",
}


class Run(cmd_run.Run):  # type: ignore[misc]  # doit has no type information
    """doit's `run`, with our runners."""

    name = "run"
    cmd_options = (*cmd_run.Run.cmd_options, REQUIRE_REMOTE, REQUIRE_CACHED, NO_DIST)

    def execute(self, params: Any, args: Any) -> int:
        """Run; an interruption ends with exit code 130 and keeps what is finished."""
        try:
            return int(super().execute(params, args))
        except CacheError as error:
            sys.stderr.write(f"error: {message(error)}\n")
            return int(ERROR)
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted: finished nodes are kept; run doit again to go on\n")
            return INTERRUPTED

    def _execute(  # the argument list is doit's interface: it is inspected by name
        self,
        outfile: Any,
        session: Session,
        verbosity: Any = None,
        always: bool = False,
        continue_: bool = False,
        reporter: Any = "console",
        num_process: int = 0,
        par_type: str = "process",
        single: bool = False,
        auto_delayed_regex: bool = False,
        force_verbosity: bool = False,
        failure_verbosity: int = 0,
        require_remote: bool = False,
        require_cached: bool = False,
        no_dist: bool = False,
    ) -> int:
        self.control = TaskControl(self.task_list, auto_delayed_regex=auto_delayed_regex)
        self.control.process(self.sel_tasks)
        if single:
            _without_dependencies(self.control)
        session.workspace.shared.required = require_remote
        shared = session.workspace.shared
        forks = not (num_process and shared.reads) or shared.remote is None or shared.remote.forks
        runner_class = _runner_class(num_process, par_type if forks else "thread")
        runner_class.session = session
        runner_class.asked = _asked(self.control) if self.sel_tasks else ()
        runner_class.dist = not no_dist
        runner_class.cached_only = require_cached
        with ExitStack() as stack:
            stream: TextIO = sys.stderr
            if isinstance(outfile, str):
                stream = stack.enter_context(Path(outfile).open("w", encoding="utf-8"))
            reporter_class = self.reporters[reporter] if isinstance(reporter, str) else reporter
            report = reporter_class(stream, {"failure_verbosity": failure_verbosity})
            tasks_stream = Stream(verbosity, force_verbosity)
            arguments = [self.dep_manager, report, continue_, always, tasks_stream]
            if num_process:
                arguments.append(num_process)
            return runner_class(*arguments).run_all(self.control.task_dispatcher())


def _asked(control: Any) -> tuple[str, ...]:
    """Names of the nodes that were named, alone or as a group."""
    tasks = [control.tasks[name] for name in control.selected_tasks]
    return tuple(
        name for task in tasks for name in (task.task_dep if task.has_subtask else [task.name])
    )


def _without_dependencies(control: Any) -> None:
    """`doit -s TASK`: run the selected tasks alone."""
    for name in control.selected_tasks:
        task = control.tasks[name]
        for alone in [control.tasks[sub] for sub in task.task_dep] if task.has_subtask else [task]:
            alone.task_dep = []


def _runner_class(num_process: int, par_type: str) -> type[NodeRunner]:
    if num_process == 0:
        return SerialRunner
    if par_type == "thread" or not hasattr(os, "fork"):
        return ThreadRunner
    if par_type != "process":
        raise InvalidCommand(f"Invalid parallel type {par_type}")
    # children inherit the session; spawned ones would have to load everything again
    multiprocessing.set_start_method("fork", force=True)
    return ProcessRunner
