"""One run of an action on a server of the Remote Execution API, from its request to its end.

A stream that breaks is taken up again by `WaitExecution`, or by the same `Execute`, which servers
answer with the run that is under way.

Source: build/bazel/remote/execution/v2/remote_execution.proto, the service Execution.
"""

from __future__ import annotations

import contextlib
from enum import Enum
from typing import TYPE_CHECKING

import grpc

from cache import digest as digests
from cache.errors import CacheError, Interrupted, RemoteUnavailable, said
from cache.protocol import operations_pb2 as operations
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.grpc_connection import PASSING, REAPI, message, parse, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event

    from google.protobuf.message import Message

    from cache.digest import Digest
    from cache.remote.grpc_connection import Connection

_EXECUTE = REAPI + "Execution/Execute"
_WAIT = REAPI + "Execution/WaitExecution"
_CANCEL = "/google.longrunning.Operations/CancelOperation"
_ATTEMPTS = 3  # in a row to take up a stream that breaks
_PAUSE = 0.2  # seconds before the next one
_CANCEL_SECONDS = 2.0
_SHOWN = 300  # characters of what a server says
_HINT = "look at the workers of the executor, or try again later"
_KNOWN = {code.value[0]: code for code in grpc.StatusCode}


class Stage(Enum):
    """How far an action is on the server."""

    QUEUED = "queued"
    EXECUTING = "executing"


_STAGES = {
    reapi.ExecutionStage.QUEUED: Stage.QUEUED,
    reapi.ExecutionStage.EXECUTING: Stage.EXECUTING,
}


class MissingInputs(Interrupted):
    """The server lacks blobs of an action; `named` are those that it names."""

    def __init__(self, message: str, named: frozenset[Digest]) -> None:
        super().__init__(message, "check the instance and the platform of the executor")
        self.named = named


class Cancelled(CacheError):  # noqa: N818  the name is the condition, not the mechanism
    """The build was ended before the action had."""


class Run:
    """One run of an action.

    fresh: whether to run it although the server has a result. watch: is told how far it is.
    stream: seconds to listen to a stream before opening it anew, so that one whose server is gone
    is noticed. ended: set when nobody waits any more.
    """

    def __init__(
        self,
        connection: Connection,
        key: Digest,
        *,
        fresh: bool,
        watch: Callable[[Stage], None],
        stream: float,
        ended: Event,
    ) -> None:
        self._connection = connection
        self._key = key
        self._fresh = fresh
        self._watch = watch
        self._stream = stream
        self._ended = ended
        self._name = ""
        self._call: grpc.Call | None = None
        self._timed_out = False

    def response(self) -> reapi.ExecuteResponse:
        """Wait for the end, and return what the server says then.

        Raises:
            Cancelled: `ended` was set.
            MissingInputs: the server lacks what the action needs.
            Interrupted: another attempt may help: the worker or the server was lost.
            RemoteUnavailable: the server refuses, or what it says is no message of the API.
        """
        broken = 0
        while (done := self._follow()) is None:
            broken = 0 if self._timed_out else broken + 1
            if broken == _ATTEMPTS:
                raise Interrupted(self._text("the stream of an action breaks", ""), _HINT)
            self._ended.wait(_PAUSE * broken)
        if done.WhichOneof("result") != "response":
            raise self._meant(done.error)
        response = self._connection.parsed(reapi.ExecuteResponse, done.response.value)
        if response.status.code:
            raise self._meant(response.status)
        return response

    def abandon(self) -> None:
        """Have the server end the run."""
        if self._call is not None:
            self._call.cancel()
        if self._name:
            request = operations.CancelOperationRequest(name=self._name)
            call: grpc.UnaryUnaryMultiCallable[Message, bytes]
            call = self._connection.open().unary_unary(_CANCEL, to_bytes)
            with contextlib.suppress(grpc.RpcError):  # servers without it end it with its stream
                call(request, timeout=_CANCEL_SECONDS, metadata=self._connection.metadata)

    def _follow(self) -> operations.Operation | None:
        """Listen to one stream until the operation is finished, or None if the stream ends before."""
        waits, said = bool(self._name), False
        self._timed_out = False
        try:
            for operation in self._listen(waits=waits):
                said = True
                self._name = operation.name or self._name
                if operation.done:
                    return operation
                kind = reapi.ExecuteOperationMetadata
                stage = self._connection.parsed(kind, operation.metadata.value).stage
                if stage in _STAGES:
                    self._watch(_STAGES[stage])
        except grpc.RpcError as error:
            self._check()
            code = error.code()
            if waits and code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED):
                self._name = ""  # the server has started anew, or knows no waiting: ask again
            elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._timed_out = said
            elif not said or code not in PASSING:
                raise self._told(error) from None
        self._check()
        return None

    def _listen(self, *, waits: bool) -> Iterator[operations.Operation]:
        request: Message
        if waits:
            request = reapi.WaitExecutionRequest(name=self._name)
        else:
            request = reapi.ExecuteRequest(
                instance_name=self._connection.instance,
                action_digest=message(self._key),
                skip_cache_lookup=self._fresh,
            )
        stream: grpc.UnaryStreamMultiCallable[Message, bytes]
        stream = self._connection.open().unary_stream(_WAIT if waits else _EXECUTE, to_bytes)
        call = stream(request, timeout=self._stream, metadata=self._connection.metadata)
        self._call = call
        self._check()
        try:
            for answer in call:
                yield self._connection.parsed(operations.Operation, answer)
        finally:
            call.cancel()

    def _check(self) -> None:
        if self._ended.is_set():
            raise Cancelled("ended before the action was")

    def _told(self, error: grpc.RpcError) -> CacheError:
        """Return what the refusal of a request means."""
        if error.code() is grpc.StatusCode.NOT_FOUND:  # of the action, as some servers say
            return MissingInputs(self._text("not found", error.details() or ""), frozenset())
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            return self._connection.told(error)
        for one in error.trailing_metadata() or ():
            if one.key == "grpc-status-details-bin" and isinstance(one.value, bytes):
                return self._meant(self._connection.parsed(reapi.Status, one.value))
        number: int = error.code().value[0]
        return self._meant(reapi.Status(code=number, message=error.details() or ""))

    def _meant(self, status: reapi.Status) -> CacheError:
        """Return what the status of an operation means."""
        code = _KNOWN.get(status.code, grpc.StatusCode.UNKNOWN)
        text = self._text(code.name.lower().replace("_", " "), status.message)
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            return MissingInputs(text, _named(status))
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return RemoteUnavailable(text, "the executor gives an action less time than it takes")
        kind = Interrupted if code in PASSING else RemoteUnavailable
        return kind(text, _HINT)

    def _text(self, code: str, text: str) -> str:
        shown = said(text, _SHOWN)
        return f"{self._connection.address}: {code}" + (f" ({shown})" if shown else "")


def _named(status: reapi.Status) -> frozenset[Digest]:
    """Return the blobs that a status says are missing, `blobs/HASH/SIZE` each."""
    found = set()
    for detail in status.details:
        if detail.type_url.endswith("PreconditionFailure"):
            with contextlib.suppress(CacheError):  # what is none names nothing
                failure = parse(operations.PreconditionFailure, detail.value)
                for violation in failure.violations:
                    _, _, name = f"/{violation.subject}".rpartition("/blobs/")
                    with contextlib.suppress(CacheError):
                        found.add(digests.parse(name))
    return frozenset(found)
