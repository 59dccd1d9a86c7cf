"""A server of the Remote Execution API that lies, breaks and drips; what was interrupted goes on."""

from __future__ import annotations

import contextlib
import io
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache import digest as digests
from cache.errors import CacheError, CorruptBlob, RemoteUnavailable
from cache.protocol import bytestream_pb2 as bytestream
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.credentials import Credentials
from cache.remote.grpc_connection import parse
from cache.remote.grpc_streams import _Requests, _Upload
from cache.remote.grpc_transport import GrpcTransport
from cache.remote.retrying import Backoff, RetryingTransport
from cache.remote.store import RemoteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = digests.of_bytes(b"key")
SMALL = b"small"
LARGE = bytes(range(256)) * 20_000
STREAMS = {"Read": "unary_stream", "Write": "stream_unary"}

Answer = Any  # bytes, or an iterator of them, or what raises


class Faulty(grpc.GenericRpcHandler):
    """Methods by name; each gets the request's bytes (or an iterator of them) and the context."""

    def __init__(self) -> None:
        self.methods: dict[str, Callable[[Any, Any], Answer]] = {
            "GetCapabilities": lambda _request, _context: b""
        }
        self.metadata: list[tuple[str, str]] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        name = details.method.rpartition("/")[2]
        self.metadata += [(key, str(value)) for key, value in details.invocation_metadata]
        if name not in self.methods:
            return None
        kind = STREAMS.get(name, "unary_unary")
        handler: grpc.RpcMethodHandler[Any, Any] = getattr(grpc, f"{kind}_rpc_method_handler")(
            self.methods[name]
        )
        return handler


@pytest.fixture
def faulty() -> Iterator[tuple[Faulty, RemoteStore]]:
    handler = Faulty()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    transport = GrpcTransport(f"grpc://127.0.0.1:{port}/i", Credentials("secret"), seconds=60.0)
    backoff = Backoff(attempts=3, sleep=lambda _: None)
    with contextlib.closing(RemoteStore(RetryingTransport(transport, backoff))) as store:
        yield handler, store
    server.stop(None).wait()


def read_response(digest: digests.Digest, data: bytes) -> bytes:
    response = reapi.BatchReadBlobsResponse.Response(
        digest={"hash": digest.hash, "size_bytes": digest.size}, data=data
    )
    return reapi.BatchReadBlobsResponse(responses=[response]).SerializeToString()


def part(data: bytes) -> bytes:
    return bytestream.ReadResponse(data=data).SerializeToString()


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff" * 30,
        b"",
        read_response(KEY, SMALL),
        read_response(digests.of_bytes(SMALL), b"other"),
        read_response(digests.of_bytes(SMALL), SMALL * 1000),
        bytes(20 << 20),
    ],
)
def test_small_blobs_that_are_none(faulty: tuple[Faulty, RemoteStore], answer: bytes) -> None:
    server, store = faulty
    server.methods["BatchReadBlobs"] = lambda _request, _context: answer
    with pytest.raises((CorruptBlob, RemoteUnavailable)):
        store.read(digests.of_bytes(SMALL))


@pytest.mark.parametrize(
    "answer",
    [
        lambda: iter([b"\xff" * 30]),
        lambda: iter([]),
        lambda: iter([part(LARGE[:1000])]),
        lambda: itertools.repeat(part(bytes(1 << 20))),
        lambda: iter([part(LARGE[:-1] + b"x")]),
        lambda: iter([part(LARGE + b"x")]),
    ],
)
def test_streams_that_are_no_blob(
    faulty: tuple[Faulty, RemoteStore], answer: Callable[[], Iterator[bytes]]
) -> None:
    server, store = faulty
    server.methods["Read"] = lambda _request, _context: answer()
    with pytest.raises((CorruptBlob, RemoteUnavailable)):
        store.read(digests.of_bytes(LARGE))


@pytest.mark.parametrize("entry", [b"\xff" * 30, b"", b"\x12\x05hello", bytes(20 << 20)])
def test_results_that_are_none(faulty: tuple[Faulty, RemoteStore], entry: bytes) -> None:
    server, store = faulty
    server.methods["GetActionResult"] = lambda _request, _context: entry
    try:
        assert store.get_result(KEY) is None
    except RemoteUnavailable:
        assert len(entry) > 16 << 20


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.value[0]])
def test_every_refusal_is_one_message(
    faulty: tuple[Faulty, RemoteStore], code: grpc.StatusCode
) -> None:
    server, store = faulty
    server.methods["GetActionResult"] = lambda _request, context: context.abort(code, "a\nb")
    if code is grpc.StatusCode.NOT_FOUND:
        assert store.get_result(KEY) is None
        return
    with pytest.raises(RemoteUnavailable) as caught:
        store.get_result(KEY)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_the_token_is_sent(faulty: tuple[Faulty, RemoteStore]) -> None:
    server, store = faulty
    with pytest.raises(RemoteUnavailable):
        store.missing([KEY])
    assert ("authorization", "Bearer secret") in server.metadata


def test_a_download_goes_on_where_it_stopped(faulty: tuple[Faulty, RemoteStore]) -> None:
    server, store = faulty
    offsets = []

    def read(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        asked = bytestream.ReadRequest.FromString(request)
        assert asked.resource_name == f"i/blobs/{digests.of_bytes(LARGE).hash}/{len(LARGE)}"
        offsets.append(asked.read_offset)
        for start in range(asked.read_offset, len(LARGE), 1 << 20):
            yield part(LARGE[start : start + (1 << 20)])
            if len(offsets) < 3:
                context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    server.methods["Read"] = read
    assert store.read(digests.of_bytes(LARGE)) == LARGE
    assert offsets == [0, 1 << 20, 2 << 20]


def test_an_upload_goes_on_where_it_stopped(faulty: tuple[Faulty, RemoteStore]) -> None:
    server, store = faulty
    stored: dict[str, bytes] = {}

    def write(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        for request in map(bytestream.WriteRequest.FromString, requests):
            have = stored.setdefault(request.resource_name, b"")
            assert request.write_offset == len(have)
            stored[request.resource_name] = have + request.data
            if len(have) == 1 << 20:
                context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")
            if request.finish_write:
                break
        return bytestream.WriteResponse(committed_size=len(LARGE)).SerializeToString()

    def status(request: bytes, _: grpc.ServicerContext) -> bytes:
        name = bytestream.QueryWriteStatusRequest.FromString(request).resource_name
        answer = bytestream.QueryWriteStatusResponse(committed_size=len(stored[name]))
        return answer.SerializeToString()

    server.methods |= {"Write": write, "QueryWriteStatus": status}
    assert store.write(LARGE) == digests.of_bytes(LARGE)
    assert list(stored.values()) == [LARGE]


def test_an_upload_of_which_the_server_has_less_is_none(
    faulty: tuple[Faulty, RemoteStore],
) -> None:
    server, store = faulty
    server.methods["Write"] = lambda requests, _: (
        list(requests) and bytestream.WriteResponse(committed_size=1).SerializeToString()
    )
    with pytest.raises(RemoteUnavailable, match="1 bytes of blob"):
        store.write(LARGE)


def test_silence_ends(faulty: tuple[Faulty, RemoteStore]) -> None:
    server, store = faulty
    ended = threading.Event()
    server.methods["GetActionResult"] = lambda _request, _context: bytes(ended.wait(60))
    impatient = GrpcTransport(store.address, Credentials(), seconds=0.1)
    with pytest.raises(RemoteUnavailable, match="deadline exceeded"):
        impatient.get_entry(KEY)
    ended.set()
    impatient.close()


def test_nobody_reads_a_file_whose_upload_has_ended() -> None:
    """Another attempt reads it from its start, and grpc asks for requests in a thread of its own."""
    reading, goes_on = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            reading.set()
            assert goes_on.wait(60)
            return super().read(size)

    upload = _Upload("some/name", zstd=False)
    requests = _Requests(digests.of_bytes(LARGE), Slow(LARGE), upload, 0)
    with ThreadPoolExecutor(2) as threads:
        asked = threads.submit(next, requests)
        assert reading.wait(60)
        ended = threads.submit(requests.end)
        assert not ended.done()
        goes_on.set()
        assert asked.result().data == LARGE[: 1 << 20]
        ended.result()
    assert list(requests) == []


@given(st.binary(max_size=100))
def test_no_message_is_taken_for_another(data: bytes) -> None:
    kinds = (reapi.FindMissingBlobsResponse, reapi.BatchReadBlobsResponse, reapi.ServerCapabilities)
    for kind in (*kinds, bytestream.ReadResponse, bytestream.WriteResponse):
        with contextlib.suppress(CacheError):
            parse(kind, data)
