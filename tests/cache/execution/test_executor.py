"""A server that executes actions and fails in every way: what is tried again, what is told, how often."""

from __future__ import annotations

import contextlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from cache import digest as digests
from cache.errors import CacheError, RemoteUnavailable
from cache.execution.executor import ActionFailed, Executor
from cache.execution.operation import Cancelled, Stage
from cache.protocol import operations_pb2 as operations
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.credentials import Credentials
from cache.remote.grpc_transport import GrpcTransport
from cache.remote.retrying import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from cache.digest import Digest

CODES = {code.name: code for code in grpc.StatusCode}
STREAMS = {"Execute": "unary_stream", "WaitExecution": "unary_stream"}

ACTION, COMMAND, OUTPUT = b"the action", b"the command", b"the output"
KEY = digests.of_bytes(ACTION)
BLOBS = {digests.of_bytes(data): data for data in (ACTION, COMMAND)}

Step = Any  # an operation, or what raises


def message(digest: Digest) -> reapi.Digest:
    return reapi.Digest(hash=digest.hash, size_bytes=digest.size)


def packed(value: Any) -> dict[str, Any]:
    return {"type_url": "x/" + value.DESCRIPTOR.full_name, "value": value.SerializeToString()}


def at(stage: int, name: str = "op") -> bytes:
    metadata = reapi.ExecuteOperationMetadata(stage=stage)  # type: ignore[arg-type]  # a number will do
    return operations.Operation(name=name, metadata=packed(metadata)).SerializeToString()


def done(response: reapi.ExecuteResponse) -> bytes:
    return operations.Operation(name="op", done=True, response=packed(response)).SerializeToString()


def failed(code: str, text: str = "", details: Any = None) -> bytes:
    status = reapi.Status(code=CODES[code].value[0], message=text)
    if details is not None:
        status.details.add(**packed(details))
    return done(reapi.ExecuteResponse(status=status))


def exits(code: int, *, cached: bool = False, **result: Any) -> bytes:
    made = reapi.ActionResult(exit_code=code, **result)
    return done(reapi.ExecuteResponse(result=made, cached_result=cached))


def lacks(digest: Digest) -> operations.PreconditionFailure:
    subject = f"blobs/{digest}"
    return operations.PreconditionFailure(violations=[{"type": "MISSING", "subject": subject}])


MADE = [{"path": "outputs/a", "digest": message(digests.of_bytes(OUTPUT))}]
GOOD = exits(0, output_files=MADE)
QUEUED, EXECUTING = at(reapi.ExecutionStage.QUEUED), at(reapi.ExecutionStage.EXECUTING)


class Server(grpc.GenericRpcHandler):
    """A CAS, and streams as a test has them: each request takes the next list of steps."""

    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {digests.of_bytes(OUTPUT): OUTPUT}
        self.streams: Iterator[list[Step]] = iter(())
        self.requests: list[str] = []
        self.fresh: list[bool] = []
        self.cancelled: list[str] = []
        self.enabled = True

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        name = details.method.rpartition("/")[2]
        method = getattr(self, name, None)
        if method is None:
            return None
        kind = STREAMS.get(name, "unary_unary")
        handler: grpc.RpcMethodHandler[Any, Any] = getattr(grpc, f"{kind}_rpc_method_handler")(
            method
        )
        return handler

    def GetCapabilities(self, _request: bytes, _context: Any) -> bytes:  # noqa: N802  (its name)
        enabled = reapi.ExecutionCapabilities(exec_enabled=self.enabled)
        return reapi.ServerCapabilities(execution_capabilities=enabled).SerializeToString()

    def FindMissingBlobs(self, request: bytes, _context: Any) -> bytes:  # noqa: N802  (its name)
        asked = reapi.FindMissingBlobsRequest.FromString(request).blob_digests
        known = {(one.hash, one.size) for one in self.blobs}
        missing = [one for one in asked if (one.hash, one.size_bytes) not in known]
        return reapi.FindMissingBlobsResponse(missing_blob_digests=missing).SerializeToString()

    def BatchUpdateBlobs(self, request: bytes, _context: Any) -> bytes:  # noqa: N802  (its name)
        answer = reapi.BatchUpdateBlobsResponse()
        for one in reapi.BatchUpdateBlobsRequest.FromString(request).requests:
            self.blobs[digests.of_bytes(one.data)] = one.data
            answer.responses.add(digest=one.digest)
        return answer.SerializeToString()

    def BatchReadBlobs(self, request: bytes, _context: Any) -> bytes:  # noqa: N802  (its name)
        answer = reapi.BatchReadBlobsResponse()
        for one in reapi.BatchReadBlobsRequest.FromString(request).digests:
            data = self.blobs.get(digests.Digest(one.hash, one.size_bytes))
            missing = reapi.Status(code=5 if data is None else 0)
            answer.responses.add(digest=one, data=data or b"", status=missing)
        return answer.SerializeToString()

    def Execute(self, request: bytes, context: Any) -> Iterator[bytes]:  # noqa: N802  (its name)
        self.fresh.append(reapi.ExecuteRequest.FromString(request).skip_cache_lookup)
        return self._stream("execute", context)

    def WaitExecution(self, _request: bytes, context: Any) -> Iterator[bytes]:  # noqa: N802  (its name)
        return self._stream("wait", context)

    def CancelOperation(self, request: bytes, _context: Any) -> bytes:  # noqa: N802  (its name)
        self.cancelled.append(operations.CancelOperationRequest.FromString(request).name)
        return b""

    def _stream(self, name: str, context: Any) -> Iterator[bytes]:
        self.requests.append(name)
        for step in next(self.streams):
            if callable(step):
                step(context)
            else:
                yield step


def refuses(code: str, text: str = "") -> Callable[[Any], None]:
    return lambda context: context.abort(CODES[code], text)


@pytest.fixture
def server() -> Iterator[Server]:
    return Server()


@pytest.fixture
def executor(server: Server) -> Iterator[Executor]:
    running = grpc.server(ThreadPoolExecutor(4), handlers=[server])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    transport = GrpcTransport(f"grpc://127.0.0.1:{port}/i", Credentials(), seconds=30.0)
    with contextlib.closing(Executor(transport, Backoff(attempts=4, sleep=lambda _: None))) as made:
        yield made
    running.stop(None).wait()


def contents(missing: Collection[Digest]) -> Mapping[Digest, bytes | Path]:
    return {digest: BLOBS[digest] for digest in missing}


def run(executor: Executor, server: Server, *streams: list[Step], **options: Any) -> Any:
    server.streams = iter(streams)
    return executor.execute(KEY, BLOBS, contents, **options)


def test_an_action(executor: Executor, server: Server) -> None:
    stages: list[Stage] = []
    written = exits(0, output_files=MADE, stdout_raw=b"out", stderr_raw=b"err")
    found = run(executor, server, [QUEUED, EXECUTING, written], watch=stages.append)
    assert found.result.outputs == {"outputs/a": digests.of_bytes(OUTPUT)}
    assert (found.cached, found.stdout, found.stderr) == (False, b"out", b"err")
    assert stages == [Stage.QUEUED, Stage.EXECUTING]
    assert server.blobs.keys() >= BLOBS.keys()


def test_a_directory_of_outputs(executor: Executor, server: Server) -> None:
    """As workers name it: by a tree, whose directories are looked at whatever their order."""
    child = reapi.Directory(files=[{"name": "b", "digest": message(digests.of_bytes(OUTPUT))}])
    data = child.SerializeToString()
    root = reapi.Directory(
        files=[{"name": "a", "digest": message(digests.of_bytes(OUTPUT))}],
        directories=[{"name": "deep", "digest": message(digests.of_bytes(data))}],
    )
    tree = reapi.Tree(root=root, children=[child]).SerializeToString()
    server.blobs[digests.of_bytes(tree)] = tree
    place = {"path": "outputs", "tree_digest": message(digests.of_bytes(tree))}
    found = run(executor, server, [exits(0, output_directories=[place])])
    assert set(found.result.outputs) == {"outputs/a", "outputs/deep/b"}


UNAVAILABLE = refuses("UNAVAILABLE", "restarting")


@pytest.mark.parametrize(
    ("streams", "requests"),
    [
        ([[UNAVAILABLE], [GOOD]], ["execute", "execute"]),
        ([[failed("UNAVAILABLE", "worker lost")], [GOOD]], ["execute", "execute"]),
        ([[failed("ABORTED")], [failed("INTERNAL")], [GOOD]], ["execute"] * 3),
        ([[QUEUED, UNAVAILABLE], [EXECUTING, GOOD]], ["execute", "wait"]),
        ([[QUEUED], [EXECUTING, GOOD]], ["execute", "wait"]),
        ([[QUEUED, UNAVAILABLE], [refuses("NOT_FOUND")], [GOOD]], ["execute", "wait", "execute"]),
        (
            [[QUEUED, UNAVAILABLE], [refuses("UNIMPLEMENTED")], [GOOD]],
            ["execute", "wait", "execute"],
        ),
        ([[exits(137)], [GOOD]], ["execute", "execute"]),
        ([[b"\xff" * 20], [GOOD]], None),
    ],
)
def test_what_may_pass_is_tried_again(
    executor: Executor, server: Server, streams: list[list[Step]], requests: list[str] | None
) -> None:
    if requests is None:  # what is no message at all is nothing to try again
        with pytest.raises(
            RemoteUnavailable, match=f"^{executor.address}: what came is no Operation$"
        ):
            run(executor, server, *streams)
        return
    assert run(executor, server, *streams).result.outputs
    assert server.requests == requests


@pytest.mark.parametrize("step", [UNAVAILABLE, failed("INTERNAL", "no worker"), exits(137)])
def test_it_is_given_up_at_last(executor: Executor, server: Server, step: Step) -> None:
    server.streams = itertools.repeat([step])
    with pytest.raises(RemoteUnavailable) as caught:
        executor.execute(KEY, BLOBS, contents)
    assert caught.value.hint
    assert len(server.requests) == 4


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "PERMISSION_DENIED", "DEADLINE_EXCEEDED"])
def test_a_refusal_is_told_at_once(executor: Executor, server: Server, code: str) -> None:
    with pytest.raises(RemoteUnavailable) as caught:
        run(executor, server, [failed(code, "no\nway")])
    assert "\n" not in str(caught.value)
    assert "no way" in str(caught.value)
    assert len(server.requests) == 1


def test_a_failed_action_is_not_tried_again(executor: Executor, server: Server) -> None:
    text = b"it is wrong\n"
    digest = digests.of_bytes(text)
    server.blobs[digest] = text
    with pytest.raises(ActionFailed) as caught:
        run(executor, server, [exits(1, stdout_raw=b"{}", stderr_digest=message(digest))])
    assert (caught.value.exit_code, caught.value.stdout, caught.value.stderr) == (1, b"{}", text)
    assert "it is wrong" in str(caught.value)
    assert server.fresh == [False]


def test_a_failure_that_the_server_remembers_is_not_believed(
    executor: Executor, server: Server
) -> None:
    assert run(executor, server, [exits(1, cached=True)], [GOOD]).result.outputs
    assert server.fresh == [False, True]


def test_a_result_without_its_outputs_is_none(executor: Executor, server: Server) -> None:
    server.blobs.clear()

    def make(_: Any) -> None:
        server.blobs[digests.of_bytes(OUTPUT)] = OUTPUT

    assert run(executor, server, [GOOD], [make, GOOD]).result.outputs
    assert server.fresh == [False, True]


@pytest.mark.parametrize("made", [[], [{"path": "../a", "digest": MADE[0]["digest"]}]])
def test_a_result_that_cannot_be_one(executor: Executor, server: Server, made: Any) -> None:
    server.streams = itertools.repeat([exits(0, output_files=made)])
    with pytest.raises(CacheError) as caught:
        executor.execute(KEY, BLOBS, contents)
    assert "output" in str(caught.value)


@pytest.mark.parametrize("by", ["status", "stream"])
def test_blobs_that_the_server_lost_are_uploaded_again(
    executor: Executor, server: Server, by: str
) -> None:
    command = digests.of_bytes(COMMAND)

    def lose(_: Any) -> None:
        del server.blobs[command]

    refused = (
        failed("FAILED_PRECONDITION", "gone", lacks(command))
        if by == "status"
        else refuses("FAILED_PRECONDITION", "gone")
    )
    assert run(executor, server, [lose, refused], [GOOD]).result.outputs
    assert server.blobs[command] == COMMAND


def test_blobs_that_the_server_says_to_have_and_lacks(executor: Executor, server: Server) -> None:
    uploads: list[set[Digest]] = []

    def counted(missing: Collection[Digest]) -> Mapping[Digest, bytes | Path]:
        uploads.append(set(missing))
        return contents(missing)

    command = digests.of_bytes(COMMAND)
    server.streams = iter([[failed("FAILED_PRECONDITION", "gone", lacks(command))], [GOOD]])
    executor.execute(KEY, BLOBS, counted)
    assert uploads == [set(BLOBS), {command}]


def test_a_precondition_that_nothing_mends(executor: Executor, server: Server) -> None:
    server.streams = itertools.repeat([failed("FAILED_PRECONDITION", "no such platform")])
    with pytest.raises(RemoteUnavailable, match="no such platform") as caught:
        executor.execute(KEY, BLOBS, contents)
    assert caught.value.hint
    assert len(server.requests) == 1


def test_what_is_there_is_not_asked_for_again(executor: Executor, server: Server) -> None:
    run(executor, server, [GOOD])
    server.blobs = {digests.of_bytes(OUTPUT): OUTPUT}
    run(executor, server, [GOOD])
    assert server.blobs.keys().isdisjoint(BLOBS)


def test_a_fresh_run(executor: Executor, server: Server) -> None:
    run(executor, server, [GOOD], fresh=True)
    assert server.fresh == [True]


def test_cancelling(executor: Executor, server: Server) -> None:
    begun = threading.Event()

    def wait(context: Any) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(60)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run, executor, server, [EXECUTING, wait], watch=lambda _: begun.set())
        assert begun.wait(60)
        executor.cancel()
        with pytest.raises(Cancelled):
            waiting.result(60)
    assert server.cancelled == ["op"]
    with pytest.raises(Cancelled):
        run(executor, server, [GOOD])


def test_a_stream_is_opened_anew_after_a_while(server: Server) -> None:
    """A server that is gone without a word is noticed; one that has nothing to say is not given up."""

    def silent(context: Any) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(60)

    running = grpc.server(ThreadPoolExecutor(4), handlers=[server])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    transport = GrpcTransport(f"grpc://127.0.0.1:{port}", Credentials())
    with contextlib.closing(Executor(transport, stream=3.0)) as executor:
        # One of them takes its time; that of the others is over when they say so.
        others = [[EXECUTING, refuses("DEADLINE_EXCEEDED")]] * 4
        assert run(executor, server, [EXECUTING, silent], *others, [GOOD]).result.outputs
    assert server.requests == ["execute"] + ["wait"] * 5
    running.stop(None).wait()


def test_a_server_that_executes_nothing(executor: Executor, server: Server) -> None:
    executor.check()
    server.enabled = False
    with pytest.raises(RemoteUnavailable, match="executes no actions") as caught:
        executor.check()
    assert "[cache]" in str(caught.value.hint)


def test_a_server_that_is_not_there() -> None:
    transport = GrpcTransport("grpc://127.0.0.1:1", Credentials())
    executor = Executor(transport)
    executor._ended.set()  # no pauses
    with contextlib.closing(executor), pytest.raises(RemoteUnavailable, match="unavailable"):
        executor.check()
