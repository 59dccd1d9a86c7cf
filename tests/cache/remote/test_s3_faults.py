"""A bucket that lies, breaks and never ends: refused, or absent, and in bounded memory."""

from __future__ import annotations

import contextlib
import io
import itertools
from typing import TYPE_CHECKING

import pytest

from cache import digest as digests
from cache import sealing
from cache.action import ActionResult
from cache.errors import CorruptBlob, MissingBlob, RemoteUnavailable
from cache.remote.s3_transport import S3Transport
from cache.remote.store import RemoteStore
from tests.cache.hostile import Hostile, Request, hostile, response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = b"content"
DIGEST = digests.of_bytes(DATA)
KEY = digests.of_bytes(b"key")
ENTRY = sealing.seal_message(KEY, ActionResult({"outputs/a": DIGEST}))
META = 'Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nETag: "a"\r\n'
MOST = 64 << 20  # bytes that a server can send before it is not listened to


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hostile]:
    with hostile() as running:
        for name, value in {
            "AWS_ENDPOINT_URL": running.address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield running


def part_of(data: bytes) -> str:
    return f"Content-Range: bytes 0-{len(data) - 1}/{len(data)}\r\n{META}"


def honest(data: bytes) -> Iterator[bytes]:
    return iter([response(data, "206 Partial Content", part_of(data))])


def endless(head: str) -> Iterator[bytes]:
    """Nearly so: what is listened to for twice as long as it may be comes to an end."""
    yield f"HTTP/1.1 206 Partial Content\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode()
    for _ in range(MOST >> 15):
        yield b"10000\r\n" + bytes(1 << 16) + b"\r\n"


def endless_headers() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    yield from itertools.repeat(b"X-Header: " + b"x" * 1000 + b"\r\n")


ATTACKS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "nothing": lambda _: iter([]),
    "no HTTP": lambda _: iter([b"\0\1\2\3 hello\r\n\r\n"]),
    "no metadata": lambda data: iter([response(data)]),
    "endless": lambda data: endless(f"Content-Length: {len(data)}\r\n{part_of(data)}"),
    "endless, of no size": lambda data: endless(part_of(data)),
    "endless headers": lambda _: endless_headers(),
    "truncated": lambda data: iter(
        [response(data[:3], "206 Partial Content", part_of(data), size=len(data))]
    ),
    "shorter": lambda data: honest(data[:3]),
    "longer": lambda data: honest(data + b"x"),
    "wrong bytes": lambda data: honest(data[::-1]),
    "huge declared size": lambda data: iter(
        [response(data, "206 Partial Content", part_of(data), size=1 << 62)]
    ),
    "another part": lambda data: iter(
        [
            response(
                data, "206 Partial Content", f"Content-Range: bytes 7-13/{len(data) + 7}\r\n{META}"
            )
        ]
    ),
    "everything": lambda data: iter([response(data * 2, headers=META)]),
    "broken": lambda _: iter([response(status="500 Internal Server Error")]),
    "forbidden": lambda _: iter([response(status="403 Forbidden")]),
    "too many": lambda _: iter(
        [response(status="429 Too Many Requests", headers="Retry-After: 99999\r\n")]
    ),
    "to itself": lambda _: iter([response(status="302 Found", headers="Location: ?\r\n")]),
    "to a file": lambda _: iter(
        [response(status="302 Found", headers="Location: file:///etc/passwd\r\n")]
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_any_answer(server: Hostile, name: str) -> None:
    store = RemoteStore(S3Transport("s3://bucket/prefix", seconds=5.0))
    sent: list[int] = []

    def attack(request: Request) -> Iterator[bytes] | None:
        if request.method == "HEAD":  # of a blob, that it is there
            head = response(headers=META, size=len(DATA))
            return iter([head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"])
        return counted(ATTACKS[name](ENTRY if "/ac/" in request.path else DATA))

    def counted(parts: Iterator[bytes]) -> Iterator[bytes]:
        for part in parts:
            sent.append(len(part))
            yield part

    server.attack = attack
    with pytest.raises((RemoteUnavailable, CorruptBlob, MissingBlob)) as caught:
        store.read(DIGEST)
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    with contextlib.suppress(RemoteUnavailable):
        found = store.get_result(KEY)
        assert found is None or name in ("no metadata", "another part")
        assert found is None or found.outputs == {"outputs/a": DIGEST}
    assert sum(sent) < MOST


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_credentials_stay_with_their_host(server: Hostile, status: int) -> None:
    transport = S3Transport("s3://bucket/prefix", seconds=5.0)
    with hostile() as other:
        server.attack = lambda request: iter(
            [response(status=f"{status} x", headers=f"Location: {other.address}{request.path}\r\n")]
        )
        with pytest.raises(RemoteUnavailable):
            transport.send(DIGEST, io.BytesIO(DATA))
        with pytest.raises((RemoteUnavailable, MissingBlob)):
            list(transport.receive(DIGEST, 0))
        assert not [one for one in other.asked if "authorization" in one.headers]
        assert not [one for one in other.asked if one.method == "PUT"]
