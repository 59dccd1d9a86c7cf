"""Builds that believe some keys: what these have signed is used, and nothing else."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cache import digest as digests
from cache import sealing
from cache.action import ActionResult
from cache.digest import Digest
from cache.errors import CorruptBlob
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.signing import Signer
from cache.trust import Trust
from tests.cache.hostile import Hostile, hostile
from tests.cache.servers import SERVERS
from tests.cache.signers import another
from tests.tasks.toy import Project, Step

CI, STOLEN, STRANGER = another("ci"), another("stolen"), another("stranger")
STEPS = {"a": Step("A", ["one.txt"]), "b": Step("B", ["a"]), "c": Step("C", ["b"], dist=True)}
EVIL = b"evil"
EVIL_DIGEST = digests.of_bytes(EVIL)
PARALLEL = [[], ["-n", "2"], ["-n", "2", "-P", "thread"]]

Capture = pytest.CaptureFixture[str]
Machine = Callable[..., Project]


def trust(*keys: Signer, by: Signer | None = None) -> Trust:
    return Trust({one.builder: one.public for one in keys}, by)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    def make(name: str, address: str, believed: Trust, *, writes: bool = False) -> Project:
        place = tmp_path / name
        made = Project(place / "project", place / "cache", dict(STEPS))
        made.remote = lambda: connect(address, Credentials())
        made.writes, made.trust = writes, believed
        (made.source / "one.txt").write_text("1")
        return made

    return make


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile() as running:
        yield running


def warnings(capsys: Capture) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]


def keys_of(server: Hostile) -> dict[str, Digest]:
    """The key of each result on a server, as its signature says it: its size is in no address."""
    found = {}
    for path in server.files:
        if path.startswith("/ac/"):
            for size in range(1000):
                key = Digest(path.removeprefix("/ac/"), size)
                try:
                    sealing.unseal_message(key, server.files[path])
                except CorruptBlob:
                    continue
                found[path] = key
    return found


def poison(server: Hostile, sign: Callable[[Digest, ActionResult], ActionResult]) -> None:
    """Have a server's results name another output, well sealed, and signed by `sign`."""
    evil = ActionResult({"outputs/out.txt": EVIL_DIGEST})
    for path, key in keys_of(server).items():
        server.files[path] = sealing.seal_message(key, sign(key, evil))
    server.files[f"/cas/{EVIL_DIGEST.hash}"] = EVIL


def signed_by(signer: Signer) -> Callable[[Digest, ActionResult], ActionResult]:
    return lambda key, result: trust(by=signer).sign(key, result)


@pytest.mark.parametrize("name", SERVERS)
def test_signatures_survive_on_real_servers(
    machine: Machine, tmp_path: Path, capsys: Capture, name: str
) -> None:
    place = tmp_path / name
    place.mkdir()
    with SERVERS[name](place) as running:
        ci = machine("ci", running.address, trust(CI, by=CI), writes=True)
        assert ci.doit() == 0
        reader = machine("reader", running.address, trust(CI))
        assert reader.doit() == 0
        assert reader.executed() == set()
        assert reader.output("c").read_text() == "CBA1"
        assert not warnings(capsys)
        stranger = machine("stranger", running.address, trust(STRANGER))
        assert stranger.doit() == 0
        assert stranger.executed() == {"a", "b", "c"}
        assert "3 results in all not believed: signed by no trusted key" in warnings(capsys)[-1]


@pytest.mark.parametrize("parallel", PARALLEL)
def test_what_is_not_signed_is_built_and_that_is_said_once(
    machine: Machine, server: Hostile, capsys: Capture, parallel: list[str]
) -> None:
    assert machine("careless", server.address, trust(), writes=True).doit() == 0
    assert not warnings(capsys)
    careful = machine("careful", server.address, trust(CI))
    assert careful.doit(*parallel) == 0
    assert careful.executed() == {"a", "b", "c"}
    assert warnings(capsys) == [
        f"{server.address}: 1 result not believed: not signed",
        f"{server.address}: 3 results in all not believed: not signed",
    ]


@pytest.mark.parametrize(
    ("sign", "told"),
    [
        (lambda _, result: result, "not signed"),
        (signed_by(STRANGER), "signed by no trusted key"),
    ],
)
def test_who_may_write_and_has_no_key_changes_nothing(
    machine: Machine,
    server: Hostile,
    capsys: Capture,
    sign: Callable[[Digest, ActionResult], ActionResult],
    told: str,
) -> None:
    assert machine("ci", server.address, trust(CI, by=CI), writes=True).doit() == 0
    poison(server, sign)
    victim = machine("victim", server.address, trust(CI))
    assert victim.doit() == 0
    assert victim.output("c").read_text() == "CBA1"
    assert warnings(capsys)[-1].endswith(told)


def test_a_signature_is_not_replayed_for_another_action(
    machine: Machine, server: Hostile, capsys: Capture
) -> None:
    """Of an older result, truly signed once: for its own action only."""
    old = machine("old", server.address, trust(CI, by=CI), writes=True)
    old.steps = {"a": Step("OLD", ["one.txt"])}
    assert old.doit() == 0
    ((path, key),) = keys_of(server).items()
    truly_signed = sealing.unseal_message(key, server.files[path])
    new = machine("new", server.address, trust(CI, by=CI), writes=True)
    assert new.doit() == 0
    for place, other in keys_of(server).items():
        if place != path:
            server.files[place] = sealing.seal_message(other, truly_signed)
    victim = machine("victim", server.address, trust(CI))
    assert victim.doit() == 0
    assert victim.executed() == {"a", "b", "c"}
    assert victim.output("c").read_text() == "CBA1"
    assert warnings(capsys)[-1].endswith("3 results in all not believed: wrongly signed")


@pytest.mark.parametrize("before", [trust(CI, STOLEN), trust()])
def test_what_a_stolen_key_did_ends_with_the_trust_in_it(
    machine: Machine, server: Hostile, capsys: Capture, before: Trust
) -> None:
    """Also what came before there was any trust: here, in dist/ and in the cache."""
    assert machine("ci", server.address, trust(CI, by=CI), writes=True).doit() == 0
    honest = dict(server.files)
    poison(server, signed_by(STOLEN))
    victim = machine("victim", server.address, before)
    assert victim.doit("step:a", "step:c") == 0
    assert victim.output("c").read_text() == "CBevil"
    assert victim.doit("status", "--check") == 0
    capsys.readouterr()
    victim.trust = trust(CI)
    assert victim.doit("status", "--check") == 1
    capsys.readouterr()
    victim.doit("plan", "--json", "step:a")
    (planned,) = json.loads(capsys.readouterr().out)["nodes"]
    assert (planned["state"], planned["reason"]) == ("stale", "no trusted key vouches for it")
    assert victim.doit() == 0
    assert victim.executed() == {"a", "b", "c"}
    assert victim.output("c").read_text() == "CBA1"
    told = warnings(capsys)
    assert any(str(victim.cache) in text for text in told)
    assert any(server.address in text for text in told)
    assert victim.doit() == 0  # and that is the end of it
    assert victim.executed() == set()
    assert not warnings(capsys)
    server.files = honest
    assert victim.doit("cache", "audit") == 0


def test_what_was_fetched_stays_where_its_key_is_trusted(
    machine: Machine, server: Hostile, capsys: Capture
) -> None:
    """A key more, or trust where there was none: nothing is built, and nothing is fetched twice."""
    assert machine("ci", server.address, trust(CI, by=CI), writes=True).doit() == 0
    reader = machine("reader", server.address, trust())
    assert reader.doit() == 0
    server.asked.clear()
    for believed in (trust(CI), trust(CI, STRANGER), trust()):
        reader.trust = believed
        assert reader.doit() == 0
        assert reader.executed() == set()
        assert reader.output("c").read_text() == "CBA1"
    assert not any(one.method == "GET" and "/cas/" in one.path for one in server.asked)
    assert not warnings(capsys)


def test_what_would_not_be_believed_is_not_written(
    machine: Machine, server: Hostile, capsys: Capture
) -> None:
    """It would replace what is."""
    ci = machine("ci", server.address, trust(CI, by=CI), writes=True)
    assert ci.doit() == 0
    files = dict(server.files)
    unable = machine("unable", server.address, trust(CI), writes=True)
    assert unable.doit("-a") == 0
    assert server.files == files
    (told,) = warnings(capsys)
    assert re.search("3 results not written: would not be believed without a signature", told)
    (unable.source / "one.txt").write_text("2")
    assert unable.doit("--require-remote") == 3
    assert unable.output("c").read_text() == "CBA1"  # nothing ran
    assert "what is built here would not be believed without a signature" in capsys.readouterr().err
    unable.writes = False
    assert unable.doit("--require-remote") == 0


def test_what_came_unsigned_before_there_were_keys_is_not_passed_on(
    machine: Machine, server: Hostile, capsys: Capture
) -> None:
    """What can be pushed is, and the rest is named."""
    assert machine("first", server.address, trust(), writes=True).doit() == 0
    ci = machine("ci", server.address, trust())
    assert ci.doit("cache", "pull", "step:b") == 0
    server.files.clear()
    ci.trust = trust(CI, by=CI)
    ci.steps["c"] = Step("other", ["one.txt"])
    assert ci.doit("step:c") == 0
    capsys.readouterr()
    assert ci.doit("cache", "push") == 0
    told = capsys.readouterr().out
    assert told.startswith("pushed 1 results, 1 blobs")
    assert told.endswith("2 neither on this machine nor in the remote cache, or not believed\n")
    assert len(keys_of(server)) == 1


def test_a_run_that_may_build_nothing_says_what_is_not_believed(
    machine: Machine, server: Hostile, capsys: Capture
) -> None:
    assert machine("stranger", server.address, trust(by=STRANGER), writes=True).doit() == 0
    reader = machine("reader", server.address, trust(CI))
    capsys.readouterr()
    assert reader.doit("--require-cached") == 3
    told = capsys.readouterr().err
    assert "step:a (not believed: signed by no trusted key)" in told
    assert "step:b (unknown until step:a is built)" in told
