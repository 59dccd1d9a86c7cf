"""doit's runners around our nodes.

doit decides the order and the parallelism. Before anything runs, the whole selection is assessed
and the plan announced; after each node, its success is in the database.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Any, NoReturn

from doit.exceptions import InvalidCommand, InvalidTask, UnmetDependency
from doit.runner import ERROR, MRunner, MThreadRunner, Runner

from cache.digest import parse
from cache.errors import CacheError
from tasks.action_output import written_to
from tasks.assess import NOT_CACHED, State
from tasks.durations import durations
from tasks.graph import DEFECT, LOGS, lost, message
from tasks.releasing import provenance
from tasks.session import Session
from tasks.state import ACTION, DISTRUSTED, DURATION, MADE, NOTICES, to_run_again
from tasks.waiting import waiting
from tasks.workspace import BUILD, sweep

if TYPE_CHECKING:
    from tasks.interruption import Interruption

PATIENCE = 1.0  # seconds until it is looked whether all workers are there
MEMORY = "if memory ran out, run fewer nodes at a time: doit -n 1"
THREADS_LOG = "threads.log"  # what actions in threads write: whose it is cannot be told


class NodeRunner(Runner):  # type: ignore[misc]  # doit has no type information
    """What every kind of runner adds: the plan before, the record after each node."""

    session: Session
    asked: tuple[str, ...] = ()
    dist: bool = True
    cached_only: bool = False
    final_result: int
    _signum: int | None = None  # of the signal that has ended the run
    _number = 0  # of this run, once it has made something
    _interruption: Interruption | None = None

    def run_all(self, task_dispatcher: Any) -> int:
        """Assess the selection, announce the plan, run."""
        session, tasks = self.session, task_dispatcher.tasks
        names = [name for name in tasks if name in session.workspace.graph.nodes]
        selected = _closure(tasks, task_dispatcher.selected_tasks)
        chosen = [name for name in names if name in selected]
        session.rebuild = to_run_again(self.dep_manager.backend, chosen)
        if self.always_execute:
            session.rebuild |= dict.fromkeys(chosen, "asked to run again")
        session.cached_only = self.cached_only
        with waiting():
            session.begin(self.dep_manager.get_values, chosen, self.asked, dist=self.dist)
        if self.cached_only:
            self._tell(session.workspace.shared.warnings())
            _check_cached(session)
        busy = any(one.state is not State.CURRENT for one in session.decided.values())
        tight: str | None = None
        if busy and not self.continue_:
            from tasks.memory import check_verifications  # noqa: PLC0415  (not on a no-op)

            _check_toolchains(session, chosen)
            if session.workspace.cluster is None:  # nothing is known of its workers' memory
                tight = check_verifications(session, chosen, self.processes)
        with waiting():
            _check_cluster(session)
        sweep(session.workspace)
        if hasattr(self.reporter, "planned"):
            known = durations(session, self.dep_manager.backend) if busy else {}
            self.reporter.planned(session, self.jobs, known)
        self._tell([tight] if tight else ())
        try:
            with self._interruptible() if busy else nullcontext() as self._interruption:
                code = int(super().run_all(task_dispatcher))
            recorded = self.dep_manager.get_values
            provenance.write(session, lambda name: recorded(name).get("key"), chosen)
        finally:
            session.workspace.store.stat.flush()
            if self._signum is not None:  # neither threads nor what compilers still say are awaited
                os._exit(128 + self._signum)
        return code

    @property
    def jobs(self) -> int:
        """How many nodes run at a time."""
        return int(getattr(self, "num_process", 1))

    @property
    def processes(self) -> int:
        """How many processes nodes run in: models that one process runs, it runs one by one."""
        return 1

    def _interruptible(self) -> AbstractContextManager[Interruption]:
        from tasks.interruption import interruptible  # noqa: PLC0415  (20 ms no no-op must spend)

        return interruptible(
            getattr(self.reporter, "cut_off", lambda _signum: None),
            getattr(self.reporter, "away", nullcontext),
        )

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run; an interruption ends what runs, and leaves what is not uploaded yet."""
        try:
            super().run_tasks(task_dispatcher)
        except KeyboardInterrupt as stop:
            self._stopped(stop)
            raise

    def _stopped(self, stop: KeyboardInterrupt) -> None:
        self._signum = getattr(stop, "signum", signal.SIGINT)
        if self.session.workspace.cluster is not None:
            self.session.workspace.cluster.cancel()
        if self._interruption is not None:
            self._interruption.end_below()
        if hasattr(self.reporter, "interrupted"):
            self.reporter.interrupted(self._signum)

    def finish(self) -> int:
        """End the run when the last upload has."""
        shared = self.session.workspace.shared
        try:
            if hasattr(self.reporter, "uploading") and self._signum is None:
                self.reporter.uploading(shared.pending())
            shared.finish(abandon=self._signum is not None)
        except CacheError as error:
            self.final_result = self.final_result or ERROR
            self.reporter.runtime_error(message(error))
        except KeyboardInterrupt as stop:
            self._stopped(stop)
            shared.finish(abandon=True)
            raise
        finally:
            shared.close()
            self._tell(shared.warnings())
            if hasattr(self.reporter, "settled"):
                self.reporter.settled(durations(self.session, self.dep_manager.backend))
            super().finish()
        return int(self.final_result)

    def _handle_task_error(self, node: Any, base_fail: Any) -> None:
        """Let a node that waits for a failed one not turn doit's "failed" (1) into "error" (2)."""
        before = self.final_result
        super()._handle_task_error(node, base_fail)
        if isinstance(base_fail, UnmetDependency):
            self.final_result = before

    def process_task_result(self, node: Any, base_fail: Any) -> None:
        """Keep what explains and estimates, a node's Action, why it was made and its time, apart."""
        if self._interruption is not None:
            self._interruption.check()
        task, state = node.task, self.dep_manager.backend
        workspace = self.session.workspace
        shared = workspace.shared
        for name, key in task.values.pop(MADE, {}).items():
            decided = self.session.decided.get(name)
            keyed = decided.keyed if decided is not None and shared.writes else None
            same = keyed is not None and str(keyed.key) == key
            shared.push(parse(key), keyed.messages if keyed is not None and same else {})
        for cause, keys in task.values.pop(DISTRUSTED, {}).items():
            shared.distrust(cause, keys)
        self._tell(task.values.pop(NOTICES, ()))
        fields = task.values.pop(ACTION, None)
        if fields is not None:
            from tasks.history import begin_run, tell  # noqa: PLC0415  (only if something was made)

            task.result = None
            self._number = self._number or begin_run(state)
            tell(
                workspace, state, self._number, task.values["how"], self.session.decided[task.name]
            )
            state.set(task.name, ACTION, fields)
        ran = task.values.pop(DURATION, None)
        if ran is not None:
            state.set(task.name, DURATION, round(ran, 3))
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
        why = session.workspace.lacks(nodes[name])
        if why is not None and session.decided[name].state is not State.CURRENT:
            lacking.setdefault(why, []).append(name)
    if lacking:
        told = [f"{why}\n  needed by {', '.join(found)}" for why, found in lacking.items()]
        others = "to build what needs none of this: doit --continue, or select tasks"
        raise InvalidCommand("\n".join([*told, others]))


def _check_cluster(session: Session) -> None:
    """Refuse a run of which a cluster is to do a part, and cannot.

    Raises CacheError: it cannot be reached, or runs no actions.
    """
    cluster = session.workspace.cluster
    to_build = (State.STALE, State.WAITING)
    if cluster is not None and any(
        one.state in to_build and one.node.remote for one in session.decided.values()
    ):
        cluster.check()


def _check_cached(session: Session) -> None:
    """Refuse a run that would have to build something, before it begins.

    Raises InvalidCommand naming the nodes, and why each would be built.
    """
    distrusted = session.workspace.shared.distrusted().items()
    unbelieved = {key: cause for (_, cause), keys in distrusted for key in keys}
    lacking = {
        name: unbelieved.get(assessed.keyed.key, assessed.reason)
        if assessed.keyed
        else assessed.reason
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

    @property
    def processes(self) -> int:
        """One for each node at a time."""
        return self.jobs

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run, without sharing connections with the children."""
        self.session.workspace.shared.close()
        super().run_tasks(task_dispatcher)

    def _run_start_processes(self, job_q: Any, result_q: Any) -> list[Any]:
        from tasks.interruption import held  # noqa: PLC0415  (as above)

        with held():
            workers = list(super()._run_start_processes(job_q, result_q))
        result_q.get = partial(self._next_result, result_q.get, workers)
        return workers

    def _next_result(self, get: Callable[..., Any], workers: list[Any]) -> Any:
        """Return what a worker says next, for which doit would wait forever if one was killed.

        Raises InvalidTask if one was; the node that it ran has failed.
        """
        while True:
            try:
                return get(timeout=PATIENCE)
            except Empty:
                for worker in workers:
                    if worker.exitcode:
                        self._lost(worker)

    def _lost(self, worker: Any) -> NoReturn:
        how = f"with exit code {worker.exitcode}"
        if worker.exitcode < 0:
            how = f"by {signal.Signals(-worker.exitcode).name}"
        name = self.session.board.at_work(worker.pid)
        if name is not None:
            hint = MEMORY if -worker.exitcode == signal.SIGKILL else DEFECT
            text = f"the process that it ran in was ended {how}"
            workspace = self.session.workspace
            failed = lost(workspace, workspace.graph.nodes[name], text, hint)
            self.reporter.add_failure(self.tasks[name], failed)
        raise InvalidTask(f"a worker was ended {how}, and the run with it")

    def execute_task_subprocess(self, job_q: Any, result_q: Any, reporter_class: Any) -> None:
        """Run tasks in a child until there are no more, or the parent is gone."""
        from tasks.interruption import end_with, let_worker_be_interrupted  # noqa: PLC0415  (as above)

        let_worker_be_interrupted()
        faulthandler.enable(2)  # a crash of native code says in the node's log where it was
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
        try:
            super().execute_task_subprocess(job_q, result_q, reporter_class)
        finally:  # what it learned of files is not written by itself when a worker ends
            self.session.workspace.store.stat.flush()


class ThreadRunner(NodeRunner, MThreadRunner):  # type: ignore[misc]  # doit has no type information
    """Nodes in threads of this process."""

    def run_tasks(self, task_dispatcher: Any) -> None:
        """Run, with one log for what all threads write."""
        self.session.threads = True
        log = self.session.workspace.root / BUILD / LOGS / THREADS_LOG
        with written_to(log):
            super().run_tasks(task_dispatcher)


def _closure(tasks: Any, selected: Any) -> set[str]:
    pending, seen = list(selected or tasks), set[str]()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            pending.extend(tasks[name].task_dep)
    return seen


def runner_class(num_process: int, par_type: str) -> type[NodeRunner]:
    """Return what runs nodes: one at a time, in processes or in threads.

    Raises InvalidCommand if there is no such form of parallelism.
    """
    if num_process == 0:
        return SerialRunner
    if par_type == "thread" or not hasattr(os, "fork"):
        return ThreadRunner
    if par_type != "process":
        raise InvalidCommand(f"no parallel type {par_type!r}\nhint: process or thread")
    # children inherit the session; spawned ones would have to load everything again
    multiprocessing.set_start_method("fork", force=True)
    return ProcessRunner
