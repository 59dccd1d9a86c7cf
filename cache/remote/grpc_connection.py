"""A connection to a server of the Remote Execution API: single requests, and its refusals in words."""

from __future__ import annotations

import os
import threading
import urllib.parse
from collections import deque
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from cache.errors import CorruptBlob, Interrupted, MissingBlob, RemoteUnavailable, said
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.transport import MAX_ENTRY_BYTES, SLOWEST

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from cache.digest import Digest
    from cache.errors import CacheError
    from cache.remote.credentials import Credentials

M = TypeVar("M", bound=Message)

REAPI = "/build.bazel.remote.execution.v2."
CAS = REAPI + "ContentAddressableStorage/"
CAPABILITIES = REAPI + "Capabilities/GetCapabilities"
_MESSAGE = MAX_ENTRY_BYTES + (1 << 16)
_OPTIONS = [
    ("grpc.max_receive_message_length", _MESSAGE),
    ("grpc.max_send_message_length", _MESSAGE),
    ("grpc.use_local_subchannel_pool", 1),  # what one store does, no other one feels
]
_UNDER_WAY = 64
PASSING = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
    )
)
_HINT = "check the address and the instance of the remote cache"
_FORBIDDEN = frozenset((grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED))


class Connection:
    """A channel to grpc://HOST[:PORT][/INSTANCE], or grpcs://, opened when it is first used.

    Safe between threads; a forked child opens a channel of its own. seconds: the longest time for
    an exchange of no bytes.

    Raises:
        CacheError: the files of the credentials cannot be used.
    """

    def __init__(self, address: str, credentials: Credentials, seconds: float) -> None:
        self.address = address.rstrip("/")
        url = urllib.parse.urlsplit(self.address)
        self.instance = url.path.strip("/")
        self._seconds = seconds
        host = url.hostname or ""
        authorization = credentials.authorization(host)
        self.metadata = (("authorization", authorization),) if authorization else None
        self._tls: grpc.ChannelCredentials | None = None
        if url.scheme == "grpcs":
            credentials.context(own=True)  # says which file is wrong
            self._tls = grpc.ssl_channel_credentials(*credentials.files())
        self._target = f"{f'[{host}]' if ':' in host else host}:{url.port or _port(url.scheme)}"
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._process = os.getpid()
        self._parents: list[grpc.Channel | None] = []  # kept: closing them is the parent's

    def open(self) -> grpc.Channel:
        """Return this process's channel."""
        with self._lock:
            if self._process != os.getpid():
                self._parents.append(self._channel)
                self._channel, self._process = None, os.getpid()
            if self._channel is None:
                if self._tls is None:
                    self._channel = grpc.insecure_channel(self._target, _OPTIONS)
                else:
                    self._channel = grpc.secure_channel(self._target, self._tls, _OPTIONS)
            return self._channel

    def call(
        self, method: str, request: Message, size: int = 0, absent: str | None = None
    ) -> bytes:
        """Return the answer to a single request, as it came.

        size: of the blob that goes or comes with it. absent: as for `told`.

        Raises:
            CacheError: as `told` says.
        """
        call: grpc.UnaryUnaryMultiCallable[Message, bytes]
        call = self.open().unary_unary(method, to_bytes)
        try:
            return call(request, timeout=self.time(size), metadata=self.metadata)
        except grpc.RpcError as error:
            raise self.told(error, absent) from None

    def ask(self, method: str, request: Message, kind: type[M]) -> M:
        """Return the answer to a question that every server has one to.

        Raises:
            RemoteUnavailable: this one has none, or it is no such message.
        """
        return self.parsed(kind, self.call(method, request))

    def parsed(self, kind: type[M], answer: bytes) -> M:
        """Return an answer without which nothing goes on.

        Raises:
            RemoteUnavailable: it is no such message.
        """
        try:
            return parse(kind, answer)
        except CorruptBlob as error:
            raise RemoteUnavailable(f"{self.address}: {error}", _HINT) from None

    def calls(
        self, method: str, requests: Iterable[Message], size: int = 0, at_once: int = _UNDER_WAY
    ) -> Generator[bytes | CacheError, None, None]:
        """Yield the answers to single requests in order, or what `told` says in place of one.

        Many are under way at a time, in this thread: half the work of as many threads. size: of
        what goes or comes with one.
        """
        ask: grpc.UnaryUnaryMultiCallable[Message, bytes]
        ask = self.open().unary_unary(method, to_bytes)
        pending: deque[grpc.Future[bytes]] = deque()
        try:
            for request in requests:
                pending.append(ask.future(request, timeout=self.time(size), metadata=self.metadata))
                if len(pending) == at_once:
                    yield self._answer(pending.popleft())
            while pending:
                yield self._answer(pending.popleft())
        finally:
            for one in pending:
                one.cancel()

    def _answer(self, future: grpc.Future[bytes]) -> bytes | CacheError:
        try:
            return future.result()
        except grpc.RpcError as error:
            return self.told(error, "it")
        except grpc.FutureCancelledError:  # the channel was closed
            return Interrupted(f"{self.address}: cancelled")

    def told(self, error: grpc.RpcError, absent: str | None = None) -> CacheError:
        """Return an error of the connection in the words of a store.

        absent: what there is none of if the server says "not found"; otherwise it refuses by that.
        """
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.NOT_FOUND and absent:
            return MissingBlob(f"{self.address}: {absent} is not there")
        text = f"{self.address}: {code.name.lower().replace('_', ' ')}"
        text += f" ({said(details, 120)})" if details else ""
        if code in _FORBIDDEN:
            return RemoteUnavailable(text, "check the token, the netrc file or the certificate")
        if code in PASSING:
            return Interrupted(text, "check the address, or try again later")
        return RemoteUnavailable(text, _HINT)

    def time(self, size: int) -> float:
        """Return the seconds that an exchange of so many bytes may take."""
        return self._seconds + size / SLOWEST

    def close(self) -> None:
        """Close the channel; a later request opens a new one."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()


def message(digest: Digest) -> reapi.Digest:
    """Return a digest as a message."""
    return reapi.Digest(hash=digest.hash, size_bytes=digest.size)


def to_bytes(message: Message) -> bytes:
    """Return a message as it is sent."""
    return message.SerializeToString()


def parse(kind: type[M], data: bytes) -> M:
    """Return an untrusted message.

    Raises:
        CorruptBlob: it is none.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise CorruptBlob(f"what came is no {kind.DESCRIPTOR.name}") from None


def _port(scheme: str) -> int:
    return 443 if scheme == "grpcs" else 80
