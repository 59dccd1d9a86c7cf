"""Small blobs, many in one message of the Remote Execution API: BatchReadBlobs, BatchUpdateBlobs."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

import grpc
from google.protobuf.message import Message

from cache.errors import CacheError, CorruptBlob, Interrupted, MissingBlob, RemoteUnavailable
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote import compression
from cache.remote.grpc_connection import CAS, PASSING, message, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from cache.digest import Digest
    from cache.remote.grpc_connection import Connection

M = TypeVar("M", bound=Message)
R = TypeVar("R", reapi.BatchReadBlobsResponse.Response, reapi.BatchUpdateBlobsResponse.Response)

MESSAGE = 4 << 20  # bytes that implementations of gRPC receive unless they are told otherwise
_LARGEST = 1 << 20  # bytes of a blob that goes in a message, if the server takes that much
_BESIDE = 1 << 10  # bytes of a message for each blob beside its own; bounds their number, too
_UNDER_WAY = 4  # messages at a time; each is held in memory

_READ = CAS + "BatchReadBlobs"
_UPDATE = CAS + "BatchUpdateBlobs"
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Batches:
    """Moves small blobs over a connection, in messages of so many bytes at most (`limit`).

    zstd_down, zstd_up: whether the server gives them as zstd, and takes them so.
    """

    def __init__(
        self, connection: Connection, limit: int, *, zstd_down: bool = False, zstd_up: bool = False
    ) -> None:
        self._connection = connection
        self._limit = limit
        self._acceptable = [reapi.Compressor.ZSTD] if zstd_down else []
        self._zstd_up = zstd_up
        self._largest = min(_LARGEST, limit - _BESIDE)

    def takes(self, digest: Digest) -> bool:
        """Return whether a blob is small enough."""
        return digest.size <= self._largest

    def read(self, digest: Digest) -> bytes:
        """Return a blob as the server gives it.

        Raises:
            CacheError: what it says instead.
        """
        request = self._question([digest])
        answer = self._connection.call(_READ, request, digest.size, f"blob {digest}")
        found = self._connection.parsed(reapi.BatchReadBlobsResponse, answer).responses
        for _, response in self._responses([digest], found):
            return self._data(digest, response)
        raise self._unanswered(digest)

    def write(self, digest: Digest, data: bytes) -> None:
        """Store a blob.

        Raises:
            CacheError: what the server says instead.
        """
        request = self._update({digest: data})
        answer = self._connection.call(_UPDATE, request, digest.size)
        found = self._connection.parsed(reapi.BatchUpdateBlobsResponse, answer).responses
        for _, response in self._responses([digest], found):
            self._check(response.status, digest)
            return
        raise self._unanswered(digest)

    def read_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Yield what the server gives, up to the first message that does not come."""
        kind = reapi.BatchReadBlobsResponse
        for group, answer in self._calls(_READ, digests, self._question, kind):
            for digest, response in self._responses(group, answer.responses):
                try:
                    data = self._data(digest, response)
                except CacheError:
                    continue
                yield digest, data

    def write_many(
        self, digests: Collection[Digest], read: Callable[[Digest], bytes]
    ) -> Iterator[Digest]:
        """Store blobs; yield those that are, up to the first message that does not arrive."""

        def update(group: list[Digest]) -> Message:
            return self._update({digest: read(digest) for digest in group})

        kind = reapi.BatchUpdateBlobsResponse
        for group, answer in self._calls(_UPDATE, digests, update, kind):
            for digest, response in self._responses(group, answer.responses):
                if not response.status.code:
                    yield digest

    def _calls(
        self,
        method: str,
        digests: Collection[Digest],
        request: Callable[[list[Digest]], Message],
        kind: type[M],
    ) -> Iterator[tuple[list[Digest], M]]:
        """Yield the small ones of blobs in groups, and the answer about each, while they come."""
        groups = self._groups(digests)
        requests, size = map(request, groups), self._limit * _UNDER_WAY
        calls = self._connection.calls(method, requests, size=size, at_once=_UNDER_WAY)
        with contextlib.closing(calls) as answers:
            for group, answer in zip(groups, answers, strict=True):
                try:
                    found = parse(kind, answer) if isinstance(answer, bytes) else None
                except CorruptBlob:
                    found = None
                if found is None:
                    return
                yield group, found

    def _groups(self, digests: Collection[Digest]) -> list[list[Digest]]:
        """Return the small ones of blobs in groups that one message takes."""
        groups: list[list[Digest]] = []
        left = 0
        for digest in filter(self.takes, digests):
            needed = digest.size + _BESIDE
            if needed > left:
                groups.append([])
                left = self._limit
            groups[-1].append(digest)
            left -= needed
        return groups

    def _question(self, digests: list[Digest]) -> reapi.BatchReadBlobsRequest:
        return reapi.BatchReadBlobsRequest(
            instance_name=self._connection.instance,
            digests=map(message, digests),
            acceptable_compressors=self._acceptable,
        )

    def _update(self, blobs: Mapping[Digest, bytes]) -> reapi.BatchUpdateBlobsRequest:
        request = reapi.BatchUpdateBlobsRequest(instance_name=self._connection.instance)
        for digest, data in blobs.items():
            zstd = compression.compress(data) if self._zstd_up else None
            if zstd is None:
                request.requests.add(digest=message(digest), data=data)
            else:
                compressor = reapi.Compressor.ZSTD
                request.requests.add(digest=message(digest), data=zstd, compressor=compressor)
        return request

    def _responses(
        self, digests: Iterable[Digest], responses: Iterable[R]
    ) -> Iterator[tuple[Digest, R]]:
        """Yield the answer about each blob; not what nobody asked for, nor a second one."""
        wanted = {(digest.hash, digest.size): digest for digest in digests}
        for response in responses:
            digest = wanted.pop((response.digest.hash, response.digest.size_bytes), None)
            if digest is not None:
                yield digest, response

    def _data(self, digest: Digest, response: reapi.BatchReadBlobsResponse.Response) -> bytes:
        self._check(response.status, digest)
        if not response.compressor:
            return response.data
        if response.compressor not in self._acceptable:
            raise CorruptBlob(f"blob {digest}: compressed in a way that was not asked for")
        return b"".join(compression.decompressed([response.data], digest.size))

    def _check(self, status: reapi.Status, digest: Digest) -> None:
        """Raise what a status within an answer means."""
        code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
        if code is grpc.StatusCode.NOT_FOUND:
            raise MissingBlob(f"blob {digest} is not there")
        if code is not grpc.StatusCode.OK:
            kind = Interrupted if code in PASSING else RemoteUnavailable
            raise kind(f"{self._connection.address}: {code.name.lower()} for blob {digest}")

    def _unanswered(self, digest: Digest) -> Interrupted:
        return Interrupted(f"{self._connection.address}: no answer about blob {digest}")
