"""The Remote Execution API v2, as bazel-remote, Buildbarn, BuildGrid and buildbox-casd serve it.

Its services Capabilities, ContentAddressableStorage and ActionCache, and ByteStream for what is too
large for one message. https://github.com/bazelbuild/remote-apis
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from cache import streaming
from cache.errors import CacheError, MissingBlob, RemoteUnavailable
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.grpc_batches import MESSAGE, Batches
from cache.remote.grpc_connection import CAPABILITIES, CAS, REAPI, Connection, message
from cache.remote.grpc_streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from cache.digest import Digest
    from cache.remote.credentials import Credentials

_ACTION_CACHE = REAPI + "ActionCache/"
_GET = _ACTION_CACHE + "GetActionResult"
_UPDATE = _ACTION_CACHE + "UpdateActionResult"
_OVERHEAD = 1 << 10  # of a message beside the blobs in it
_DIGESTS = 20_000  # in one request: half of what a message may hold


@dataclass(frozen=True)
class _Movers:
    """What moves small blobs, and large ones."""

    batches: Batches
    streams: Streams


class GrpcTransport:
    """A `Transport` of the Remote Execution API at grpc://HOST[:PORT][/INSTANCE], or grpcs://.

    seconds: the longest time for an exchange of no bytes. compression: whether blobs go as zstd
    where the server takes that and it is worth it.

    Raises:
        CacheError: the files of the credentials cannot be used.
    """

    forks = True
    write_once = False

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        seconds: float = 30.0,
        *,
        compression: bool = True,
    ) -> None:
        self.connection = Connection(address, credentials, seconds)
        self.address = self.connection.address
        self._instance = self.connection.instance
        self._compression = compression
        self._movers: _Movers | None = None

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the blobs that the server does not have."""
        wanted = list(digests)
        found: set[Digest] = set()
        for start in range(0, len(wanted), _DIGESTS):
            request = reapi.FindMissingBlobsRequest(instance_name=self._instance)
            for digest in wanted[start : start + _DIGESTS]:
                request.blob_digests.add(hash=digest.hash, size_bytes=digest.size)
            response = self.connection.ask(
                CAS + "FindMissingBlobs", request, reapi.FindMissingBlobsResponse
            )
            missing = {(one.hash, one.size_bytes) for one in response.missing_blob_digests}
            found.update(
                one for one in wanted[start : start + _DIGESTS] if (one.hash, one.size) in missing
            )
        return found

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """Yield a blob's bytes from `offset` on."""
        blobs = self._blobs()
        if blobs.batches.takes(digest):
            yield blobs.batches.read(digest)[offset:]
        else:
            yield from blobs.streams.read(digest, offset)

    def send(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob, the content of a file; what was interrupted goes on where it stopped."""
        blobs = self._blobs()
        if blobs.batches.takes(digest):
            blobs.batches.write(digest, b"".join(streaming.send(source, digest)))
        else:
            blobs.streams.write(digest, source)

    def receive_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Yield the small ones of blobs, many of which are in one message."""
        with contextlib.suppress(CacheError):
            yield from self._blobs().batches.read_many(digests)

    def send_many(
        self, digests: Collection[Digest], read: Callable[[Digest], bytes]
    ) -> Iterator[Digest]:
        """Store the small ones of blobs, many in one message; yield those that are stored."""
        try:
            batches = self._blobs().batches
        except CacheError:
            return
        yield from batches.write_many(digests, read)

    def get_entry(self, key: Digest) -> bytes | None:
        """Return the message under a key, or None."""
        try:
            return self.connection.call(_GET, self._question(key), absent="it")
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
        answer = self.connection.call(_UPDATE, request, len(entry), absent="a blob of it")
        self.connection.parsed(reapi.ActionResult, answer)
        return True

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _question(self, key: Digest) -> reapi.GetActionResultRequest:
        return reapi.GetActionResultRequest(
            instance_name=self._instance, action_digest=message(key)
        )

    def _blobs(self) -> _Movers:
        """Return what moves blobs; asks the server once what it takes.

        Raises:
            RemoteUnavailable: the server has other digests than sha256.
        """
        if self._movers is None:
            request = reapi.GetCapabilitiesRequest(instance_name=self._instance)
            found = self.connection.ask(
                CAPABILITIES, request, reapi.ServerCapabilities
            ).cache_capabilities
            if reapi.DigestFunction.SHA256 not in (found.digest_functions or (1,)):
                raise RemoteUnavailable(f"{self.address}: has no sha256", "use another server")
            declared = found.max_batch_total_size_bytes or MESSAGE  # 0: no limit of its own
            zstd = reapi.Compressor.ZSTD if self._compression else None
            self._movers = _Movers(
                Batches(
                    self.connection,
                    min(MESSAGE, declared) - _OVERHEAD,
                    zstd_down=zstd in found.supported_compressors,
                    zstd_up=zstd in found.supported_batch_update_compressors,
                ),
                Streams(self.connection, zstd=zstd in found.supported_compressors),
            )
        return self._movers
