import threading

import numpy as np
import pytest
import tvm

from olmo.generation.workers import Workers

disco = tvm.get_global_func


def test_one_worker_is_this_thread() -> None:
    assert Workers().run(lambda n: (n, threading.get_ident())) == [(0, threading.get_ident())]


def test_workers_are_threads_of_their_own() -> None:
    workers = Workers(2, 2)
    found = workers.run(lambda n: (n, threading.get_ident()))
    assert [n for n, _ in found] == [0, 1, 2, 3]
    assert len({thread for _, thread in found} | {threading.get_ident()}) == 5
    assert workers.run(lambda _: threading.get_ident()) == [thread for _, thread in found]


def tensor(*values: float, dtype: str = "float32") -> tvm.runtime.Tensor:
    return tvm.runtime.tensor(np.array(values, dtype))


def reduced(workers: Workers, kind: int, *, in_group: bool, dtype: str = "float32") -> list[float]:
    def own(n: int) -> float:
        result = tensor(0, dtype=dtype)
        given = tensor(10**n, dtype=dtype)
        shape = tvm.runtime.ShapeTuple([kind])
        disco("runtime.disco.allreduce")(given, shape, in_group, result)
        return float(result.numpy()[0])

    return workers.run(own)


def test_all_reduce() -> None:
    workers = Workers(2, 2)
    assert reduced(workers, 0, in_group=True) == [11, 11, 1100, 1100]
    assert reduced(workers, 0, in_group=False) == [1111] * 4
    assert reduced(workers, 3, in_group=False) == [1000] * 4
    assert reduced(workers, 2, in_group=True) == [1, 1, 100, 100]


def test_half_precision_is_rounded_once() -> None:
    # 1 + 10 + 100 + 1000 by halves, and 2048 + 1 + 1, which halves would leave at 2048
    assert reduced(Workers(4), 0, in_group=True, dtype="float16") == [1111] * 4
    addends = (2048, 1, 1)

    def own(n: int) -> float:
        result = tensor(0, dtype="float16")
        shape = tvm.runtime.ShapeTuple([0])
        disco("runtime.disco.allreduce")(tensor(addends[n], dtype="float16"), shape, True, result)
        return float(result.numpy()[0])

    assert Workers(3).run(own) == [2050] * 3


def test_broadcast() -> None:
    def own(n: int, *, in_group: bool) -> float:
        given = tensor(n)
        disco("runtime.disco.broadcast_from_worker0")(given, in_group, given)
        return float(given.numpy()[0])

    workers = Workers(2, 2)
    assert workers.run(lambda n: own(n, in_group=False)) == [0] * 4
    assert workers.run(lambda n: own(n, in_group=True)) == [0, 0, 2, 2]


def test_states_go_from_stage_to_stage() -> None:
    def own(n: int) -> float:
        states = tensor(n)
        if n >= 2:
            disco("runtime.disco.recv_from_prev_group")(states)
        if n < 4:
            disco("runtime.disco.send_to_next_group")(states)
        return float(states.numpy()[0])

    assert Workers(2, 3).run(own) == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_one_failure_stops_all_and_is_told(broken: int) -> None:
    workers = Workers(3)

    def own(n: int) -> None:
        if n == broken:
            raise KeyError("the cause")
        result = tensor(0)
        disco("runtime.disco.allreduce")(tensor(n), tvm.runtime.ShapeTuple([0]), True, result)

    with pytest.raises(KeyError, match="the cause"):
        workers.run(own)
    assert reduced(workers, 0, in_group=True) == [111] * 3


def test_two_teams_are_apart() -> None:
    first, second = Workers(2), Workers(2)
    assert reduced(first, 0, in_group=True) == reduced(second, 0, in_group=True) == [11, 11]
