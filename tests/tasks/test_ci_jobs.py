"""Stale nodes as jobs: each node once where that pays, never more jobs than allowed, balanced."""

import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.ci_jobs import GUESSES, START, WAVES, Job, Machine, estimates, jobs
from tasks.errors import BuildError
from tasks.node import Graph, Node, Selection, graph, producers

LINUX = Machine("ubuntu")


def nodes_of(reads: Mapping[str, Sequence[str]]) -> Graph:
    return graph(
        Node(name, "m", "{}", tuple(Selection(read, ("*",)) for read in above), "build")
        for name, above in reads.items()
    )


def divide(
    reads: Mapping[str, Sequence[str]], seconds: Mapping[str, float], limit: int
) -> list[Job]:
    return jobs(nodes_of(reads), set(reads), seconds, lambda _: LINUX, limit)


def tasks(found: Sequence[Job], wave: str) -> list[tuple[str, ...]]:
    return [job.tasks for job in found if job.wave == wave]


# two models; of each two quantizations for two targets
MODELS = {
    "kernels:host": [],
    **{f"download:{m}": [] for m in "ab"},
    **{f"convert:{m}:{q}": [f"download:{m}", "kernels:host"] for m in "ab" for q in "pq"},
    **{f"compile:{m}:{q}:{t}": [f"download:{m}"] for m in "ab" for q in "pq" for t in "xy"},
    **{
        f"package:{m}:{q}:{t}": [f"convert:{m}:{q}", f"compile:{m}:{q}:{t}"]
        for m in "ab"
        for q in "pq"
        for t in "xy"
    },
}


def test_nothing_stale_is_no_jobs() -> None:
    assert jobs(nodes_of(MODELS), set(), {}, lambda _: LINUX, 8) == []


def test_little_work_is_one_job() -> None:
    (job,) = divide(MODELS, dict.fromkeys(MODELS, 1.0), 8)
    assert job.nodes == MODELS.keys()
    assert job.tasks == tuple(name for name in nodes_of(MODELS).nodes if name.startswith("package"))
    assert (job.name, job.wave, job.seconds) == ("rows 1/1", "rows", len(MODELS))


def test_models_that_share_only_what_is_quick_are_jobs_of_their_own() -> None:
    seconds = {name: 5.0 if name == "kernels:host" else 100.0 for name in MODELS}
    found = divide(MODELS, seconds, 2)
    assert [{name.split(":")[1] for name in job.tasks} for job in found] == [{"a"}, {"b"}]
    assert [job.wave for job in found] == ["rows", "rows"]
    assert all("kernels:host" in job.nodes for job in found)
    assert [job.seconds for job in found] == [1105.0, 1105.0]


def test_what_several_jobs_need_is_made_before_them() -> None:
    seconds = {name: 5.0 if name == "kernels:host" else 100.0 for name in MODELS}
    found = divide(MODELS, seconds, 8)
    early = tasks(found, "shared")
    assert [set(job) for job in early] == [
        {"convert:a:p", "convert:a:q"},
        {"convert:b:p", "convert:b:q"},
    ]
    late = tasks(found, "rows")
    assert len(late) == 8
    assert {name for job in late for name in job} == {n for n in MODELS if n.startswith("package")}
    assert [job.seconds for job in found if job.wave == "rows"] == [200.0] * 8
    assert [job.name for job in found][:3] == ["shared 1/2", "shared 2/2", "rows 1/8"]


def test_a_graph_in_part_stale() -> None:
    stale = {"compile:a:p:x", "package:a:p:x"}
    seconds = dict.fromkeys(MODELS, 100.0)
    (job,) = jobs(nodes_of(MODELS), stale, seconds, lambda _: LINUX, 8)
    assert job.nodes == stale
    assert job.tasks == ("package:a:p:x",)


def by_target(node: Node) -> Machine:
    return Machine("ubuntu", ("cuda",) if node.name.startswith("compile") else ())


def test_toolchains_are_kept_apart() -> None:
    reads = {f"{kind}:{n}": [] for kind in ("compile", "convert") for n in range(4)}
    found = jobs(nodes_of(reads), reads, dict.fromkeys(reads, 100.0), by_target, 4)
    assert [(job.name, len(job.tasks)) for job in found] == [
        ("rows 1/4", 2),
        ("rows 2/4", 2),
        ("rows 3/4 cuda", 2),
        ("rows 4/4 cuda", 2),
    ]


def test_a_few_seconds_are_no_job_of_their_own() -> None:
    reads: dict[str, list[str]] = {"compile:1": [], "compile:2": [], "convert:1": []}
    seconds = {"compile:1": 100.0, "compile:2": 100.0, "convert:1": 3.0}
    found = jobs(nodes_of(reads), reads, seconds, by_target, 4)
    assert {job.machine.extras for job in found} == {("cuda",)}
    assert math.fsum(job.seconds for job in found) == 203.0


def test_toolchains_are_put_together_where_there_are_too_few_jobs() -> None:
    reads = {f"{kind}:{n}": [] for kind in ("compile", "convert") for n in range(4)}
    (job,) = jobs(nodes_of(reads), reads, dict.fromkeys(reads, 100.0), by_target, 1)
    assert job.machine == Machine("ubuntu", ("cuda",))
    assert job.nodes == reads.keys()


def test_more_runners_than_jobs() -> None:
    reads: dict[str, list[str]] = {"a:1": [], "b:1": []}
    with pytest.raises(BuildError, match="2 runners are needed: a, b"):
        jobs(nodes_of(reads), reads, dict.fromkeys(reads, 1.0), lambda n: Machine(n.kind), 1)


def test_what_is_known_of_a_kind_is_taken_for_its_others() -> None:
    reads: dict[str, list[str]] = {"verify:1": [], "verify:2": [], "verify:3": [], "lower:1": []}
    found = estimates(nodes_of(reads), {"verify:1": 2.0, "verify:3": 4.0, "gone:1": 9.0})
    assert found == {
        "verify:1": 2.0, "verify:2": 3.0, "verify:3": 4.0, "lower:1": GUESSES["lower"],
    }  # fmt: skip


@st.composite
def stale_graphs(draw: st.DrawFn) -> tuple[Graph, set[str], dict[str, float]]:
    """A graph, stale nodes with all that reads them, and seconds."""
    count = draw(st.integers(1, 24))
    reads: dict[str, list[str]] = {}
    for number in range(count):
        above = draw(st.sets(st.sampled_from(sorted(reads)), max_size=3)) if reads else set()
        reads[f"{draw(st.sampled_from(['compile', 'lower', 'verify']))}:{number}"] = sorted(above)
    made = nodes_of(reads)
    stale = draw(st.sets(st.sampled_from(sorted(reads))))
    for name, node in made.nodes.items():
        if stale.intersection(producers(node)):
            stale.add(name)
    took = st.sampled_from([0.1, 5.0, 40.0, 100.0, 900.0])
    return made, stale, {name: draw(took) for name in reads}


@given(stale_graphs(), st.integers(1, 6))
def test_jobs_make_everything_once_and_need_nothing_else(
    drawn: tuple[Graph, set[str], dict[str, float]], limit: int
) -> None:
    made, stale, seconds = drawn
    found = jobs(made, stale, seconds, by_target, limit)
    assert found == jobs(made, sorted(stale, reverse=True), seconds, by_target, limit)
    assert set().union(*(job.nodes for job in found)) == stale
    early = set().union(*(job.nodes for job in found if job.wave == "shared"))
    closure: dict[str, set[str]] = {}
    for name in made.nodes:
        above = stale.intersection(producers(made.nodes[name]))
        closure[name] = {name}.union(*(closure[read] for read in above))
    for wave in WAVES:
        mine = [job for job in found if job.wave == wave]
        assert len(mine) <= limit
        for job in mine:
            there = early if wave == "rows" else set()
            assert job.nodes.isdisjoint(there)
            # asked for its tasks, doit makes its nodes, and finds the rest
            asked = set().union(*(closure[task] for task in job.tasks))
            assert asked - there == job.nodes
            assert job.seconds == pytest.approx(math.fsum(seconds[name] for name in job.nodes))
            needed = {extra for name in job.nodes for extra in by_target(made.nodes[name]).extras}
            assert needed <= set(job.machine.extras)
    for name in stale:
        if math.fsum(seconds[one] for one in closure[name]) > START:
            assert sum(name in job.nodes for job in found) == 1


@given(st.lists(st.floats(0.1, 1000.0), min_size=1, max_size=40), st.integers(1, 8))
def test_jobs_are_balanced(times: list[float], limit: int) -> None:
    reads: dict[str, list[str]] = {f"lower:{number}": [] for number in range(len(times))}
    seconds = dict(zip(reads, times, strict=True))
    found = [job.seconds for job in divide(reads, seconds, limit)]
    share = max(START, math.fsum(times) / limit)
    assert max(found) <= share + max(times) + 1e-6
    assert len(found) <= math.ceil(math.fsum(times) / share)
