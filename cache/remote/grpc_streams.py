"""Blobs too large for a message: google.bytestream.ByteStream, as it is or, where the server takes it, as zstd.

Of a compressed blob, offsets are those in the blob: that from which it is read, and that of the
first request of an upload; later requests add what they have sent. A server that ends an upload
without an error has the blob: it has held what was sent against the digest, or somebody else was
faster. The size that it says then is the blob's; of zstd -1, if somebody was faster, and else what
it counts, which differs between servers and tells nothing.

Source: build/bazel/remote/execution/v2/remote_execution.proto, the service ContentAddressableStorage.
"""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import grpc
from google.protobuf.message import Message

from cache import streaming, wire
from cache.errors import CorruptBlob, Interrupted, RemoteUnavailable
from cache.protocol import bytestream_pb2 as bytestream
from cache.remote import compression
from cache.remote.grpc_connection import to_bytes

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from cache.digest import Digest
    from cache.remote.grpc_connection import Connection

_BYTE_STREAM = "/google.bytestream.ByteStream/"
_DATA = 10  # field of a ReadResponse


@dataclass(frozen=True)
class _Upload:
    """The name under which the server knows an upload, and whether it is zstd."""

    resource: str
    zstd: bool


class Streams:
    """Moves large blobs over a connection; as zstd where that is worth it, if the server takes it."""

    def __init__(self, connection: Connection, *, zstd: bool) -> None:
        self._connection = connection
        self._zstd = zstd
        self._interrupted: dict[Digest, _Upload] = {}

    def read(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """Yield a blob's bytes from `offset` on.

        Raises:
            CorruptBlob: what comes is no zstd, though it was to be.
            CacheError: what the server says instead.
        """
        zstd = self._zstd and compression.asks(digest.size)
        parts = self._parts(digest, offset, self._resource(digest, zstd=zstd))
        size = offset
        for part in compression.decompressed(parts, digest.size - offset) if zstd else parts:
            size += len(part)
            yield part
        if size < digest.size:
            raise Interrupted(f"{self._connection.address}: the stream ended early")

    def write(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob, the content of a file; what was interrupted goes on where it stopped.

        Raises:
            CorruptBlob: the file holds something else.
            CacheError: what the server says instead.
        """
        begun = self._interrupted.pop(digest, None)
        offset = self._committed(begun.resource) if begun is not None else 0
        if begun is not None and 0 < offset <= digest.size:
            try:
                self._write(digest, source, begun, offset)
            except Interrupted:
                raise
            except RemoteUnavailable:  # it counts otherwise, or lost the upload
                pass
            else:
                return
        zstd = self._zstd and compression.gains(source, digest.size)
        resource = self._resource(digest, f"uploads/{uuid.uuid4()}/", zstd=zstd)
        self._write(digest, source, _Upload(resource, zstd), 0)

    def _parts(self, digest: Digest, offset: int, resource: str) -> Iterator[bytes]:
        connection = self._connection
        request = bytestream.ReadRequest(resource_name=resource, read_offset=offset)
        read: grpc.UnaryStreamMultiCallable[Message, bytes]
        read = connection.open().unary_stream(_BYTE_STREAM + "Read", to_bytes)
        call = read(request, timeout=connection.time(digest.size), metadata=connection.metadata)
        try:
            for answer in call:
                yield wire.message(wire.parse(answer), _DATA)  # which copies once, protobuf twice
        except grpc.RpcError as error:
            raise connection.told(error, f"blob {digest}") from None
        finally:
            call.cancel()

    def _write(self, digest: Digest, source: BinaryIO, upload: _Upload, offset: int) -> None:
        """Stream a blob from `offset` on."""
        connection = self._connection
        requests = _Requests(digest, source, upload, offset)
        write: grpc.StreamUnaryMultiCallable[Message, bytes]
        write = connection.open().stream_unary(_BYTE_STREAM + "Write", to_bytes)
        try:
            answer = write(
                requests, timeout=connection.time(digest.size), metadata=connection.metadata
            )
            committed = connection.parsed(bytestream.WriteResponse, answer).committed_size
        except grpc.RpcError as error:
            told = requests.failed or connection.told(error)
            if isinstance(told, Interrupted):
                self._interrupted[digest] = upload
            raise told from None
        finally:
            requests.end()
        if requests.failed is not None:
            raise requests.failed
        if committed != digest.size and not upload.zstd:
            raise Interrupted(
                f"{connection.address}: {committed} bytes of blob {digest} were stored"
            )

    def _committed(self, resource: str) -> int:
        """Return how much of an interrupted upload the server has; 0 if it does not know."""
        request = bytestream.QueryWriteStatusRequest(resource_name=resource)
        try:
            found = self._connection.ask(
                _BYTE_STREAM + "QueryWriteStatus", request, bytestream.QueryWriteStatusResponse
            )
        except RemoteUnavailable:
            return 0
        return 0 if found.complete else int(found.committed_size)

    def _resource(self, digest: Digest, upload: str = "", *, zstd: bool) -> str:
        instance = f"{self._connection.instance}/" if self._connection.instance else ""
        kind = "compressed-blobs/zstd" if zstd else "blobs"
        return f"{instance}{upload}{kind}/{digest.hash}/{digest.size}"


class _Requests:
    """The requests of an upload, from an offset in the blob on.

    They are asked for in a thread of grpc, which may be reading when the upload has failed already.

    position: where the next one begins. failed: why they ended too early; grpc would log what they
    raise, and say something else.
    """

    def __init__(self, digest: Digest, source: BinaryIO, upload: _Upload, offset: int) -> None:
        self._resource = upload.resource
        self._parts = streaming.send(source, digest, offset)
        if upload.zstd:
            self._parts = compression.compressed(self._parts)
        self.position = offset
        self.failed: CorruptBlob | None = None
        self._requests = self._all()
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[bytestream.WriteRequest]:
        return self

    def __next__(self) -> bytestream.WriteRequest:
        with self._lock:
            return next(self._requests)

    def end(self) -> None:
        """Have no more of them; when this returns, nobody reads the file."""
        with self._lock:
            self._requests.close()

    def _all(self) -> Generator[bytestream.WriteRequest, None, None]:
        try:
            last = b""
            for part in self._parts:
                if last:
                    yield self._request(last)
                last = part
            yield self._request(last, finish=True)
        except CorruptBlob as error:
            self.failed = error

    def _request(self, data: bytes, *, finish: bool = False) -> bytestream.WriteRequest:
        begin = self.position
        self.position += len(data)
        return bytestream.WriteRequest(
            resource_name=self._resource, write_offset=begin, data=data, finish_write=finish
        )
