"""`doit run`: the command and its options; `tasks.runners` runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from doit import cmd_run
from doit.control import TaskControl
from doit.exceptions import InvalidCommand
from doit.runner import ERROR
from doit.task import Stream

from cache.errors import CacheError
from tasks.action_output import apart
from tasks.commands.explained import Explained
from tasks.display.annotations import annotated, in_github
from tasks.display.wording import INTERRUPTED
from tasks.errors import BuildError
from tasks.graph import message, use_cluster
from tasks.runners import runner_class
from tasks.session import Session

SPINS = "TVM_THREAD_POOL_SPIN_COUNT"  # how often a thread looks for work before it sleeps

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
REMOTE_EXECUTOR = {
    "name": "remote_executor",
    "long": "remote-executor",
    "type": str,
    "default": None,
    "help": "run actions on the cluster at this address, grpc://HOST:PORT[/INSTANCE]",
}
NO_DIST = {
    "name": "no_dist",
    "long": "no-dist",
    "type": bool,
    "default": False,
    "help": "leave in the remote cache what it has of dist/, unless a task is asked for by name",
}


class Run(Explained, cmd_run.Run):  # type: ignore[misc]  # doit has no type information
    """doit's `run`, with our runners."""

    name = "run"
    cmd_options = (
        *cmd_run.Run.cmd_options,
        REQUIRE_REMOTE,
        REQUIRE_CACHED,
        REMOTE_EXECUTOR,
        NO_DIST,
    )

    def parse_execute(self, in_args: list[str]) -> int:
        """Parse and execute; what was wrong with the command is annotated in GitHub Actions."""
        try:
            return int(super().parse_execute(in_args))
        except InvalidCommand as error:
            if not in_github(os.environ):
                raise
            raise InvalidCommand(annotated(str(error), os.environ)) from None

    def execute(self, params: Any, args: Any) -> int:
        """Run; an interruption ends with 128 and the number of its signal, and keeps what is done."""
        try:
            return int(super().execute(params, args))
        except InvalidCommand as error:
            if error.not_found is not None or not in_github(os.environ):
                raise
            raise InvalidCommand(annotated(str(error), os.environ)) from None
        except (BuildError, CacheError) as error:
            sys.stderr.write(f"error: {message(error)}\n")
            return int(ERROR)
        except KeyboardInterrupt as stop:
            signum = getattr(stop, "signum", None)
            if signum is None:  # before there was anything to end
                sys.stderr.write(f"\n{INTERRUPTED}\n")
            return 128 + (signum or signal.SIGINT)

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
        remote_executor: str | None = None,
        no_dist: bool = False,
    ) -> int:
        self.control = TaskControl(self.task_list, auto_delayed_regex=auto_delayed_regex)
        self.control.process(self.sel_tasks)
        if single:
            _without_dependencies(self.control)
        if remote_executor is not None:
            use_cluster(session, option=remote_executor)
        if require_cached:  # and it builds nowhere else, either
            session.workspace = replace(session.workspace, cluster=None)
        shared = session.workspace.shared
        shared.required = require_remote
        unsigned = shared.trust.why_unbelieved() if require_remote and shared.writes else None
        if unsigned is not None:  # said before it is built, not after
            raise InvalidCommand(f"what is built here {unsigned}\nhint: {unsigned.hint}")
        forks = not (num_process and shared.reads) or shared.remote is None or shared.remote.forks
        if session.workspace.cluster is not None:
            forks = False  # its actions run elsewhere: who waits for them needs no process
        runner = runner_class(num_process, par_type if forks else "thread")
        runner.session = session
        runner.asked = _asked(self.control) if self.sel_tasks else ()
        runner.dist = not no_dist
        runner.cached_only = require_cached
        with ExitStack() as stack:
            if num_process > 1:
                stack.enter_context(_threads_that_wait_sleep())
            stack.callback(shared.close)  # also where a run is refused before it begins
            stack.enter_context(shared.local.lease())
            shared.local.register(session.workspace.root)
            if isinstance(outfile, str):
                stream: TextIO = stack.enter_context(Path(outfile).open("w", encoding="utf-8"))
            elif (stream := apart(sys.stderr)) is not sys.stderr:
                stack.enter_context(stream)
            reporter_class = self.reporters[reporter] if isinstance(reporter, str) else reporter
            report = reporter_class(stream, {"failure_verbosity": failure_verbosity})
            tasks_stream = Stream(verbosity, force_verbosity)
            arguments = [self.dep_manager, report, continue_, always, tasks_stream]
            if num_process:
                arguments.append(num_process)
            return runner(*arguments).run_all(self.control.task_dispatcher())


@contextmanager
def _threads_that_wait_sleep() -> Iterator[None]:
    """Have threads of TVM that wait for each other sleep, unless the environment says otherwise.

    They spin, on processors that nodes beside them could use; no result depends on that.
    """
    chosen = SPINS in os.environ
    os.environ.setdefault(SPINS, "0")
    try:
        yield
    finally:
        if not chosen:
            os.environ.pop(SPINS, None)


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
