"""A server of the Remote Execution API in this process, as the API's text has it, that can be told to fail."""

from __future__ import annotations

import contextlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import zstandard

from cache.digest import CHUNK, Digest, of_bytes
from cache.protocol import bytestream_pb2 as bytestream
from cache.protocol import remote_execution_pb2 as reapi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STREAMS = {"Read": "unary_stream", "Write": "stream_unary"}
GARBAGE = b"\xff" * 30
CODES = {code.name: code for code in grpc.StatusCode}


@dataclass
class ReapiServer(grpc.GenericRpcHandler):
    """Blobs and results as held, which a test may damage, and how the server behaves.

    limit: bytes of blobs in one message. refuse: returns the name of the status of a blob in a
    message (of "BatchReadBlobs" or "BatchUpdateBlobs"), or of a whole request where there is no
    blob; None to do it. asked: how often each method was. zstd: whether it gives and takes that.
    committed: what it says at the end of a compressed upload, given the bytes sent and the size of
    the blob. cuts: after how many messages the next streams break, one after the other. sizes:
    bytes of the data of each stream and of each blob in a message. resources: names of streams.
    garbled: the method that answers what is no message.
    """

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    results: dict[Digest, bytes] = field(default_factory=dict)
    limit: int = 0
    refuse: Callable[[str, Digest | None], str | None] = lambda _, __: None
    asked: Counter[str] = field(default_factory=Counter)
    uploads: dict[str, bytes] = field(default_factory=dict)
    zstd: bool = False
    committed: Callable[[int, int], int] = lambda sent, _: sent
    cuts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    garbled: str = ""
    port: int = 0

    @property
    def address(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    def clear(self) -> None:
        for held in (self.blobs, self.results, self.uploads, self.asked):
            held.clear()
        for seen in (self.cuts, self.sizes, self.resources):
            seen.clear()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        name = details.method.rpartition("/")[2]
        method = getattr(self, name, None)
        if method is None:
            return None
        kind = STREAMS.get(name, "unary_unary")

        def answer(request: Any, context: Any) -> Any:
            self.asked[name] += 1
            if (code := self.refuse(name, None)) is not None:
                context.abort(CODES[code], "as asked to")
            if name == self.garbled:
                return iter([GARBAGE]) if kind == "unary_stream" else GARBAGE
            found = method(request, context)
            is_ready = kind == "unary_stream" or isinstance(found, bytes)
            return found if is_ready else found.SerializeToString()

        handler: grpc.RpcMethodHandler[Any, Any] = getattr(grpc, f"{kind}_rpc_method_handler")(
            answer
        )
        return handler

    def GetCapabilities(self, _request: bytes, _context: Any) -> Any:  # noqa: N802  (its name)
        compressors = [reapi.Compressor.ZSTD] if self.zstd else []
        return reapi.ServerCapabilities(
            cache_capabilities={
                "max_batch_total_size_bytes": self.limit,
                "digest_functions": [1],
                "supported_compressors": compressors,
                "supported_batch_update_compressors": compressors,
            }
        )

    def FindMissingBlobs(self, request: bytes, _context: Any) -> Any:  # noqa: N802  (its name)
        asked = reapi.FindMissingBlobsRequest.FromString(request).blob_digests
        missing = [one for one in asked if digest_of(one) not in self.blobs]
        return reapi.FindMissingBlobsResponse(missing_blob_digests=missing)

    def BatchReadBlobs(self, request: bytes, context: Any) -> Any:  # noqa: N802  (its name)
        whole = reapi.BatchReadBlobsRequest.FromString(request)
        zstd = reapi.Compressor.ZSTD in whole.acceptable_compressors
        assert not zstd or self.zstd
        self._check_limit(sum(one.size_bytes for one in whole.digests), context)
        answer = reapi.BatchReadBlobsResponse()
        for one in whole.digests:
            digest = digest_of(one)
            code = self.refuse("BatchReadBlobs", digest)
            if code is None and digest not in self.blobs:
                code = "NOT_FOUND"
            data = self.blobs[digest] if code is None else b""
            if zstd:
                data = zstandard.compress(data)
            self.sizes.append(len(data))
            answer.responses.add(digest=one, data=data, status=_status(code), compressor=int(zstd))
        return answer

    def BatchUpdateBlobs(self, request: bytes, context: Any) -> Any:  # noqa: N802  (its name)
        given = reapi.BatchUpdateBlobsRequest.FromString(request).requests
        self._check_limit(sum(one.digest.size_bytes for one in given), context)
        answer = reapi.BatchUpdateBlobsResponse()
        for one in given:
            digest = digest_of(one.digest)
            self.sizes.append(len(one.data))
            data = one.data
            if one.compressor:
                assert self.zstd
                data = zstandard.decompress(data, max_output_size=digest.size)
            code = self.refuse("BatchUpdateBlobs", digest)
            if code is None and not self._store(data, digest):
                code = "INVALID_ARGUMENT"
            answer.responses.add(digest=one.digest, status=_status(code))
        return answer

    def Read(self, request: bytes, context: Any) -> Iterator[bytes]:  # noqa: N802  (its name)
        asked = bytestream.ReadRequest.FromString(request)
        name = asked.resource_name
        data = self.blobs.get(_named(name))
        if data is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        assert data is not None
        self.resources.append(name)
        rest = data[asked.read_offset :]
        if self._is_zstd(name):
            rest = zstandard.compress(rest)
        self.sizes.append(len(rest))
        left = self._left()
        for part in _parts(rest):
            self._cut(left, context)
            left -= 1
            yield bytestream.ReadResponse(data=part).SerializeToString()

    def Write(self, requests: Iterator[bytes], context: Any) -> Any:  # noqa: N802  (its name)
        name, expected, sent, left = "", None, 0, self._left()
        into: Any = None
        for request in map(bytestream.WriteRequest.FromString, requests):
            name = request.resource_name or name
            have = self.uploads.setdefault(name, b"")
            if expected is None:
                self.resources.append(name)
                expected = len(have)
                into = zstandard.ZstdDecompressor().decompressobj() if self._is_zstd(name) else None
            if request.write_offset != expected:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "another offset")
            expected += len(request.data)
            sent += len(request.data)
            self.uploads[name] = have + (into.decompress(request.data) if into else request.data)
            self._cut(left, context)
            left -= 1
            if request.finish_write:
                break
        self.sizes.append(sent)
        digest = _named(name)
        if not self._store(self.uploads[name], digest):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "another digest")
        size = self.committed(sent, digest.size) if self._is_zstd(name) else digest.size
        return bytestream.WriteResponse(committed_size=size)

    def QueryWriteStatus(self, request: bytes, context: Any) -> Any:  # noqa: N802  (its name)
        name = bytestream.QueryWriteStatusRequest.FromString(request).resource_name
        if name not in self.uploads:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return bytestream.QueryWriteStatusResponse(committed_size=len(self.uploads[name]))

    def GetActionResult(self, request: bytes, context: Any) -> Any:  # noqa: N802  (its name)
        asked = reapi.GetActionResultRequest.FromString(request).action_digest
        entry = self.results.get(digest_of(asked))
        if entry is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "")
        return entry

    def UpdateActionResult(self, request: bytes, _context: Any) -> Any:  # noqa: N802  (its name)
        asked = reapi.UpdateActionResultRequest.FromString(request)
        self.results[digest_of(asked.action_digest)] = asked.action_result.SerializeToString()
        return asked.action_result

    def _is_zstd(self, resource: str) -> bool:
        found = "compressed-blobs/zstd/" in resource
        assert self.zstd or not found
        return found

    def _left(self) -> int:
        return self.cuts.pop(0) if self.cuts else 1 << 30

    def _cut(self, left: int, context: Any) -> None:
        if left == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")

    def _check_limit(self, size: int, context: Any) -> None:
        if self.limit and size > self.limit:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{size} bytes are too many")

    def _store(self, data: bytes, digest: Digest) -> bool:
        if of_bytes(data) != digest:
            return False
        self.blobs[digest] = data
        return True


def digest_of(message: Any) -> Digest:
    return Digest(message.hash, message.size_bytes)


def _status(code: str | None) -> Any:
    return reapi.Status(code=0 if code is None else CODES[code].value[0])


def _named(resource: str) -> Digest:
    """The blob of a name that ends with HASH/SIZE."""
    *_, name, size = resource.split("/")
    return Digest(name, int(size))


def _parts(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK):
        yield data[start : start + CHUNK]


@contextlib.contextmanager
def serving(server: ReapiServer) -> Iterator[ReapiServer]:
    """Run a server on loopback."""
    running = grpc.server(ThreadPoolExecutor(8), handlers=[server])
    server.port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield server
    finally:
        running.stop(None).wait()
