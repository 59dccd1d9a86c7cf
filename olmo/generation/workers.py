"""Workers: the devices that a library runs on, each a thread with its own virtual machine.

One device is this thread. Several are the workers of a TVM disco session. For CPUs TVM brings no
collectives, so sums and exchanges between them are those of this module, under the names by which
TVM asks for the ones of a session without a communication library (`runtime/disco/builtin.cc`). Sums
add in the order of the workers: no result depends on who comes first.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"
# mypy: allow-untyped-decorators

import functools
import itertools
import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray

_T = TypeVar("_T")
_Array = NDArray[Any]

_RUN = "olmill.workers.run"
# tvm::runtime::ReduceKind (include/tvm/runtime/disco/builtin.h)
_REDUCTIONS: Mapping[int, np.ufunc] = {0: np.add, 1: np.multiply, 2: np.minimum, 3: np.maximum}


class Workers:
    """`shards` times `stages` workers; worker `n` is shard `n % shards` of stage `n // shards`."""

    def __init__(self, shards: int = 1, stages: int = 1) -> None:
        self.shards, self.stages = shards, stages
        self.count = shards * stages
        self._team = _Team(shards, stages) if self.count > 1 else None
        if self._team is not None:
            weakref.finalize(self, _function("runtime.disco.SessionShutdown"), self._team.session)
        processors = _processors()
        each = max(1, len(processors) // self.count)
        self.run(lambda _: _use(processors, each))

    def run(self, work: Callable[[int], _T]) -> list[_T]:
        """Return what `work(n)` returns in each worker `n`; they run it at the same time.

        Raises:
            Exception: what a worker raised, of those that did not fail only because another did.
        """
        return [work(0)] if self._team is None else self._team.run(work)


class _Team:
    """The threads of a session, and the mail between them."""

    def __init__(self, shards: int, stages: int) -> None:
        self.shards, self.stages, self.count = shards, stages, shards * stages
        if stages > 1:
            _give_stages_a_cache()
        self.session = _function("runtime.disco.SessionThreaded")(self.count, stages)
        self._run = _function("runtime.disco.SessionGetGlobalFunc")(self.session, _RUN)
        self._open()

    def run(self, work: Callable[[int], _T]) -> list[_T]:
        futures: list[Future[_T]] = [Future() for _ in range(self.count)]
        ticket = next(_TICKETS)
        _JOBS[ticket] = lambda worker: self._own(work, worker, futures[worker])
        try:
            _function("runtime.disco.SessionCallPacked")(self.session, 0, 0, self._run, ticket)
            wait(futures)
        finally:
            del _JOBS[ticket]
        failed = [n for n, future in enumerate(futures) if future.exception() is not None]
        if failed:
            cause = next((n for n in failed if n not in self._stopped), failed[0])
            self._open()
            futures[cause].result()
        return [future.result() for future in futures]

    def send(self, array: _Array, sender: int, receiver: int) -> None:
        """Leave an array for another worker."""
        self._mail[sender, receiver].put(array)

    def receive(self, sender: int, receiver: int) -> _Array:
        """Wait for an array of another worker.

        Raises:
            RuntimeError: that worker failed.
        """
        array = self._mail[sender, receiver].get()
        if array is None:
            self._stopped.add(receiver)
            raise RuntimeError(f"worker {sender} failed")
        return array

    def _open(self) -> None:
        pairs = itertools.permutations(range(self.count), 2)
        self._mail: dict[tuple[int, int], SimpleQueue[_Array | None]] = {
            pair: SimpleQueue() for pair in pairs
        }
        self._stopped: set[int] = set()

    def _own(self, work: Callable[[int], _T], worker: int, future: Future[_T]) -> None:
        """Do the work of one worker, in its thread."""
        _MEMBERS[threading.get_ident()] = (self, worker)
        try:
            future.set_result(work(worker))
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that asked
            for (sender, _), mail in self._mail.items():
                if sender == worker:
                    mail.put(None)
            future.set_exception(error)
        finally:
            del _MEMBERS[threading.get_ident()]


_TICKETS = itertools.count()
_JOBS: dict[int, Callable[[int], None]] = {}
_MEMBERS: dict[int, tuple[_Team, int]] = {}  # by thread, while it works


def _function(name: str) -> Any:
    return tvm_ffi.get_global_func(name)


@tvm_ffi.register_global_func(_RUN, override=True)
def _run(ticket: int) -> None:
    job = _JOBS.get(ticket)
    if job is not None:  # else nobody waits for it any more
        job(int(_function("runtime.disco.worker_id")()[0]))


def _member() -> tuple[_Team, int]:
    return _MEMBERS[threading.get_ident()]


def _colleagues(in_group: bool) -> tuple[_Team, int, Sequence[int]]:
    """Return the team, this worker, and the workers that it exchanges with, itself among them."""
    team, worker = _member()
    first = worker - worker % team.shards
    return team, worker, range(first, first + team.shards) if in_group else range(team.count)


@tvm_ffi.register_global_func("runtime.disco..allreduce", override=True)
def _allreduce(given: Any, kind: int, in_group: bool, result: Any) -> None:
    """Combine the tensors of all workers; sums are rounded once, from float32."""
    team, worker, colleagues = _colleagues(in_group)
    own = given.numpy()
    others = [n for n in colleagues if n != worker]
    for other in others:
        team.send(own, worker, other)
    arrays = {worker: own} | {other: team.receive(other, worker) for other in others}
    wide = (arrays[n].astype(np.float32) for n in colleagues)
    result.copyfrom(functools.reduce(_REDUCTIONS[kind], wide).astype(own.dtype))


@tvm_ffi.register_global_func("runtime.disco..broadcast_from_worker0", override=True)
def _broadcast(given: Any, in_group: bool, result: Any) -> None:
    """Give everyone the tensor of the first worker."""
    team, worker, colleagues = _colleagues(in_group)
    first, *others = colleagues
    if worker != first:
        result.copyfrom(team.receive(first, worker))
        return
    array = given.numpy()
    for other in others:
        team.send(array, worker, other)
    result.copyfrom(array)


@tvm_ffi.register_global_func("runtime.disco..send_to_next_group", override=True)
def _send_to_next_group(given: Any) -> None:
    team, worker = _member()
    team.send(given.numpy(), worker, worker + team.shards)


@tvm_ffi.register_global_func("runtime.disco..recv_from_prev_group", override=True)
def _receive_from_previous_group(result: Any) -> None:
    team, worker = _member()
    result.copyfrom(team.receive(worker - team.shards, worker))


@tvm_ffi.register_global_func("mlc.multi_gpu.DispatchFunctionByGroup", override=True)
def _dispatch(context: Any, choices: Any) -> Any:
    """Call the function of this worker's stage (see `olmo.modeling.pipeline_stages`)."""
    team, worker = _member()
    closure, *arguments = choices[worker // team.shards]
    return _function("vm.builtin.invoke_closure")(context, closure, *arguments)


@functools.cache
def _give_stages_a_cache() -> None:
    """Let a worker of a stage create a KV cache, which TVM 0.27 refuses.

    There the cache is in another shared library than the workers, with a thread-local variable of
    its own, so it takes every thread for the only stage. Here it gets all layers, of which the
    stage uses its own. Libraries that are loaded from now on call this.
    """
    name = "vm.builtin.paged_attention_kv_cache_create"
    create = _function(name)

    def create_for_stage(sizes: Any, layers: Any, *rest: Any) -> Any:
        member = _MEMBERS.get(threading.get_ident())
        if member is not None and member[0].stages > 1:
            layers = tvm.runtime.ShapeTuple([0, layers[-1]])
        return create(sizes, layers, *rest)

    tvm_ffi.register_global_func(name, create_for_stage, override=True)


def _processors() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _use(processors: Sequence[int], count: int) -> None:
    """Give this thread's pool of TVM `count` threads on any of the processors, without binding.

    By default TVM takes every second one for a hyper-thread. No result depends on their number.
    """
    share_all = -3  # tvm::runtime::threading::ThreadGroup::kSpecifyThreadShareAllCore
    configure = tvm.get_global_func("runtime.config_threadpool")
    configure(share_all, count, [str(processor) for processor in processors])
