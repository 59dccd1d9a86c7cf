"""Many requests under way, and servers that close their connections."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from cache import digest as digests
from cache.action import ActionResult
from cache.errors import Interrupted
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.remote.http_connection import Connections, Request, origin_of, told
from tests.cache import hostile
from tests.cache.servers import nginx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cache.hostile import Hostile

FILES = {f"/{number}": b"%d" % number for number in range(50)}


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile.hostile() as server:
        server.files.update(FILES)
        yield server


def read(server: Hostile, connections: Connections, most: int = 4) -> list[bytes]:
    """Return the bodies of the answers that came, of all files asked for in order."""
    requests = (Request("GET", path, {}) for path in FILES)
    origin = origin_of(urlsplit(server.address))
    with contextlib.closing(connections.answers(origin, requests, most)) as answers:
        return [answer.read() for answer in answers]


@pytest.fixture
def connections() -> Iterator[Connections]:
    with contextlib.closing(
        Connections(30.0, lambda _: ssl.create_default_context())
    ) as connections:
        yield connections


def closing(server: Hostile, after: int) -> None:
    """Let the server close each connection after so many answers, and say so."""
    given: dict[int, int] = {}

    def attack(request: hostile.Request) -> Iterator[bytes] | None:
        given[request.port] = given.get(request.port, 0) + 1
        if given[request.port] < after:
            return None
        return iter([hostile.response(FILES[request.path], headers="Connection: close\r\n")])

    server.attack = attack


@pytest.mark.parametrize("most", [1, 2, 16, 80])
def test_answers_come_in_order(server: Hostile, connections: Connections, most: int) -> None:
    assert read(server, connections, most) == list(FILES.values())
    assert len({request.port for request in server.asked}) <= most


def test_many_are_under_way(server: Hostile, connections: Connections) -> None:
    """None of the first eight is answered before all of them are asked."""
    first = list(FILES)[:8]
    together = threading.Barrier(len(first))

    def attack(request: hostile.Request) -> None:
        if request.path in first:
            together.wait(60)

    server.attack = attack
    assert read(server, connections, len(first)) == list(FILES.values())


def test_connections_are_used_again(server: Hostile, connections: Connections) -> None:
    for _ in range(3):
        assert read(server, connections) == list(FILES.values())
    assert len({request.port for request in server.asked}) == 4


@pytest.mark.parametrize("after", [2, 3, 7])
def test_connections_may_end_after_some_answers(
    server: Hostile, connections: Connections, after: int
) -> None:
    closing(server, after)
    assert read(server, connections) == list(FILES.values())


def test_a_server_that_closes_each_is_asked_no_more(
    server: Hostile, connections: Connections
) -> None:
    closing(server, 1)
    assert read(server, connections) == [b"0"]


def test_connections_closed_meanwhile_are_made_again(
    server: Hostile, connections: Connections
) -> None:
    """Servers close idle connections without a word."""
    last = list(FILES)[-4:]  # one on each connection, which is cut then

    def attack(request: hostile.Request) -> Iterator[bytes] | None:
        if request.path in last and len(server.asked) <= len(FILES):
            return iter([hostile.response(FILES[request.path])])
        return None

    server.attack = attack
    assert read(server, connections) == list(FILES.values())
    assert read(server, connections) == list(FILES.values())
    assert len({request.port for request in server.asked}) == 8


def test_the_first_one_that_does_not_come_ends_it(
    server: Hostile, connections: Connections
) -> None:
    server.attack = lambda request: iter([b"HT"]) if request.path == "/20" else None
    assert read(server, connections) == list(FILES.values())[:20]


def test_an_answer_that_is_not_read_is_the_last(server: Hostile, connections: Connections) -> None:
    requests = (Request("GET", path, {}) for path in FILES)
    origin = origin_of(urlsplit(server.address))
    with contextlib.closing(connections.answers(origin, requests, 4)) as answers:
        assert next(answers).status == http.client.OK
        assert next(answers, None) is None
    assert read(server, connections) == list(FILES.values())


def test_no_server(connections: Connections) -> None:
    with hostile.hostile() as server:
        pass
    assert read(server, connections) == []


def test_a_refused_request_says_so() -> None:
    with pytest.raises(Interrupted, match="the server: no HTTP answer"), told("the server"):
        raise http.client.IncompleteRead(b"")


def test_a_limit_of_answers_for_each_connection(tmp_path: Path) -> None:
    """As nginx has one, of 1,000 unless told."""
    with (
        nginx(tmp_path, more="keepalive_requests 3;") as server,
        contextlib.closing(connect(server.address, Credentials())) as store,
    ):
        results = {
            digests.of_bytes(b"key %d" % number): ActionResult({"out": store.write(b"%d" % number)})
            for number in range(100)
        }
        for key, result in results.items():
            store.put_result(key, result)
        found = store.get_results(results)
        assert {key: result.outputs for key, result in found.items()} == {
            key: result.outputs for key, result in results.items()
        }
        absent = digests.of_bytes(b"absent")
        assert store.missing([absent, *(result.outputs["out"] for result in results.values())]) == {
            absent
        }
