"""The Remote Execution API v2, as bazel-remote, Buildbarn, BuildGrid and buildbox-casd serve it.

Its services Capabilities, ContentAddressableStorage and ActionCache, and ByteStream for what is too
large for one message. https://github.com/bazelbuild/remote-apis
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING, BinaryIO

import grpc
from google.protobuf.message import Message

from cache import streaming
from cache.errors import CacheError, CorruptBlob, Interrupted, MissingBlob, RemoteUnavailable
from cache.protocol import bytestream_pb2 as bytestream
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.grpc_batches import MESSAGE, Batches
from cache.remote.grpc_connection import CAS, REAPI, Connection, message, parse, to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cache.digest import Digest
    from cache.remote.credentials import Credentials

_ACTION_CACHE = REAPI + "ActionCache/"
_GET = _ACTION_CACHE + "GetActionResult"
_BYTE_STREAM = "/google.bytestream.ByteStream/"
_OVERHEAD = 1 << 10  # of a message beside the blobs in it
_DIGESTS = 20_000  # in one request: half of what a message may hold


class GrpcTransport:
    """A `Transport` of the Remote Execution API at grpc://HOST[:PORT][/INSTANCE], or grpcs://.

    seconds: the longest time for an exchange of no bytes.

    Raises:
        CacheError: the files of the credentials cannot be used.
    """

    forks = True
    write_once = False

    def __init__(self, address: str, credentials: Credentials, seconds: float = 30.0) -> None:
        self.connection = Connection(address, credentials, seconds)
        self.address = self.connection.address
        self._instance = self.connection.instance
        self._small: Batches | None = None
        self._uploads: dict[Digest, str] = {}  # that were interrupted: their resources

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the blobs that the server does not have."""
        wanted = list(digests)
        found: set[Digest] = set()
        for start in range(0, len(wanted), _DIGESTS):
            request = reapi.FindMissingBlobsRequest(instance_name=self._instance)
            for digest in wanted[start : start + _DIGESTS]:
                request.blob_digests.add(hash=digest.hash, size_bytes=digest.size)
            answer = self.connection.call(CAS + "FindMissingBlobs", request)
            response = parse(reapi.FindMissingBlobsResponse, answer)
            missing = {(one.hash, one.size_bytes) for one in response.missing_blob_digests}
            found.update(
                one for one in wanted[start : start + _DIGESTS] if (one.hash, one.size) in missing
            )
        return found

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """Yield a blob's bytes from `offset` on."""
        if self._batches().takes(digest):
            yield self._batches().read(digest)[offset:]
            return
        resource = self._resource(f"blobs/{digest.hash}/{digest.size}")
        request = bytestream.ReadRequest(resource_name=resource, read_offset=offset)
        read: grpc.UnaryStreamMultiCallable[Message, bytes]
        read = self.connection.open().unary_stream(_BYTE_STREAM + "Read", to_bytes)
        call = read(
            request, timeout=self.connection.time(digest.size), metadata=self.connection.metadata
        )
        size = offset
        try:
            for answer in call:
                data: bytes = parse(bytestream.ReadResponse, answer).data
                size += len(data)
                yield data
        except grpc.RpcError as error:
            raise self.connection.told(error, digest) from None
        finally:
            call.cancel()
        if size < digest.size:
            raise Interrupted(f"{self.address}: the stream ended early")

    def send(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob, the content of a file; what was interrupted goes on where it stopped."""
        if self._batches().takes(digest):
            self._batches().write(digest, b"".join(streaming.send(source, digest)))
            return
        resource = self._uploads.pop(digest, None)
        offset = self._committed(resource) if resource else 0
        if resource is None or not offset:
            resource = self._resource(f"uploads/{uuid.uuid4()}/blobs/{digest.hash}/{digest.size}")
        try:
            self._write(digest, source, resource, offset)
        except Interrupted:
            self._uploads[digest] = resource
            raise

    def receive_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Yield the small ones of blobs, many of which are in one message."""
        with contextlib.suppress(CacheError):
            yield from self._batches().read_many(digests)

    def send_many(
        self, digests: Collection[Digest], read: Callable[[Digest], bytes]
    ) -> Iterator[Digest]:
        """Store the small ones of blobs, many in one message; yield those that are stored."""
        try:
            batches = self._batches()
        except CacheError:
            return
        yield from batches.write_many(digests, read)

    def get_entry(self, key: Digest) -> bytes | None:
        """Return the message under a key, or None."""
        try:
            return self.connection.call(_GET, self._question(key))
        except MissingBlob:
            return None

    def get_entries(self, keys: Sequence[Digest]) -> dict[Digest, bytes | None]:
        """Return the messages under keys, up to the first one that does not come."""
        found: dict[Digest, bytes | None] = {}
        with contextlib.closing(self.connection.calls(_GET, map(self._question, keys))) as answers:
            for key, answer in zip(keys, answers, strict=True):
                if not isinstance(answer, (bytes, MissingBlob)):
                    break
                found[key] = answer if isinstance(answer, bytes) else None
        return found

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        """Store a message under a key, replacing an earlier one in any case."""
        del replace
        request = reapi.UpdateActionResultRequest(
            instance_name=self._instance,
            action_digest=message(key),
            action_result=reapi.ActionResult.FromString(entry),
        )
        self.connection.call(_ACTION_CACHE + "UpdateActionResult", request, len(entry))
        return True

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _question(self, key: Digest) -> reapi.GetActionResultRequest:
        return reapi.GetActionResultRequest(
            instance_name=self._instance, action_digest=message(key)
        )

    def _write(self, digest: Digest, source: BinaryIO, resource: str, offset: int) -> None:
        """Stream a blob from `offset` on."""
        failed: list[CorruptBlob] = []

        def requests() -> Iterator[bytestream.WriteRequest]:
            position = offset
            try:
                for part in streaming.send(source, digest, offset):
                    ends = position + len(part) == digest.size
                    yield bytestream.WriteRequest(
                        resource_name=resource, write_offset=position, data=part, finish_write=ends
                    )
                    position += len(part)
            except CorruptBlob as error:  # grpc would log it and say something else
                failed.append(error)

        write: grpc.StreamUnaryMultiCallable[Message, bytes]
        write = self.connection.open().stream_unary(_BYTE_STREAM + "Write", to_bytes)
        try:
            answer = write(
                requests(),
                timeout=self.connection.time(digest.size),
                metadata=self.connection.metadata,
            )
            committed = parse(bytestream.WriteResponse, answer).committed_size
        except grpc.RpcError as error:
            raise failed[0] if failed else self.connection.told(error, digest) from None
        if failed:
            raise failed[0]
        if committed != digest.size:
            raise Interrupted(f"{self.address}: {committed} bytes of blob {digest} were stored")

    def _committed(self, resource: str) -> int:
        """Return how much of an interrupted upload the server has; 0 if it does not know."""
        request = bytestream.QueryWriteStatusRequest(resource_name=resource)
        try:
            answer = self.connection.call(_BYTE_STREAM + "QueryWriteStatus", request)
            found = parse(bytestream.QueryWriteStatusResponse, answer)
        except (MissingBlob, RemoteUnavailable, CorruptBlob):
            return 0
        return 0 if found.complete else int(found.committed_size)

    def _batches(self) -> Batches:
        """Return what moves small blobs; asks the server once what it takes.

        Raises:
            RemoteUnavailable: the server has other digests than sha256.
        """
        if self._small is None:
            request = reapi.GetCapabilitiesRequest(instance_name=self._instance)
            answer = self.connection.call(REAPI + "Capabilities/GetCapabilities", request)
            found = parse(reapi.ServerCapabilities, answer).cache_capabilities
            if reapi.DigestFunction.SHA256 not in (found.digest_functions or (1,)):
                raise RemoteUnavailable(f"{self.address}: has no sha256", "use another server")
            declared = found.max_batch_total_size_bytes or MESSAGE  # 0: no limit of its own
            self._small = Batches(self.connection, min(MESSAGE, declared) - _OVERHEAD)
        return self._small

    def _resource(self, name: str) -> str:
        return f"{self._instance}/{name}" if self._instance else name
