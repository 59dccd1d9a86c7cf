"""An S3 bucket as a cache: s3://BUCKET[/PREFIX], with results below ac/ and blobs below cas/.

Who asks and where the bucket is (endpoint, region) come from the AWS_* variables of the
environment, as for other tools. https://docs.aws.amazon.com/AmazonS3/latest/API
"""

from __future__ import annotations

import contextlib
import urllib.parse
from datetime import timedelta
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore import exceptions
from obstore.store import S3Store

from cache import parallel, streaming
from cache.errors import CacheError, CorruptBlob, Interrupted, MissingBlob, RemoteUnavailable
from cache.remote.transport import MAX_ENTRY_BYTES, SLOWEST, OneByOne

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from obstore import GetResult

    from cache.digest import Digest

_CHECK = "check the address and the AWS_* variables (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, …)"
_NO_BUCKET = "NoSuchBucket"  # the code of that answer: no bucket and no object are both 404
_PIECE = 8 << 20  # bytes of a blob for which one request asks, so that each has its time limit


class S3Transport(OneByOne):
    """A `Transport` to a bucket.

    seconds: the longest time for an exchange of no bytes.

    Raises:
        CacheError: the AWS_* variables cannot be used.
    """

    forks = False  # the runtime of obstore does not survive a fork
    write_once = True

    def __init__(self, address: str, seconds: float = 30.0) -> None:
        self.address = address.rstrip("/")
        url = urllib.parse.urlsplit(self.address)
        limit = f"{seconds + _PIECE / SLOWEST:.0f}s"
        try:
            self._store = S3Store(
                url.hostname or "",
                prefix=url.path.strip("/") or None,
                client_options={
                    "timeout": limit,
                    "connect_timeout": f"{min(seconds, 10):.0f}s",
                    "allow_http": True,  # where AWS_ENDPOINT_URL says so
                },
                retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
            )
        except exceptions.BaseError as error:
            raise CacheError(f"{self.address}: {_kind(error)}", _CHECK) from None

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the blobs that the bucket does not have, or in another size."""
        wanted = list(digests)
        sizes = parallel.each(self._size, wanted)
        return {digest for digest, size in zip(wanted, sizes, strict=True) if size != digest.size}

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """Yield a blob's bytes from `offset` on."""
        if not digest.size:
            if self._size(digest) is None:
                raise MissingBlob(f"blob {digest} is not there")
            return
        while offset < digest.size:
            piece = (offset, min(offset + _PIECE, digest.size))
            try:
                with self._told():
                    found = obstore.get(self._store, _blob(digest), options={"range": piece})
                    if found.meta["size"] != digest.size:
                        size = found.meta["size"]
                        raise CorruptBlob(f"blob {digest}: the server has {size} bytes")
                    data = _content(found, piece[1] - piece[0])
            except FileNotFoundError:
                raise MissingBlob(f"blob {digest} is not there") from None
            except Interrupted:  # perhaps because there is nothing where the piece would be
                if (held := self._size(digest)) not in (None, digest.size):
                    raise CorruptBlob(f"blob {digest}: the server has {held} bytes") from None
                raise
            if not data:
                raise Interrupted(f"{self.address}: the connection broke")
            offset += len(data)
            yield data

    def send(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob, the content of a file."""
        failed: list[CorruptBlob] = []

        def parts() -> Iterator[bytes]:
            try:
                yield from streaming.send(source, digest)
            except CorruptBlob as error:  # obstore would say something else
                failed.append(error)
                raise

        whole = b"".join(streaming.send(source, digest)) if digest.size <= _PIECE else None
        try:
            with self._told():
                obstore.put(self._store, _blob(digest), parts() if whole is None else whole)
        except Exception as error:
            if failed:
                raise failed[0] from None
            if isinstance(error, FileNotFoundError):
                raise self._no_bucket() from None
            raise

    def get_entry(self, key: Digest) -> bytes | None:
        """Return the message under a key, or None."""
        try:
            with self._told():
                found = obstore.get(self._store, f"ac/{key.hash}")
                if found.meta["size"] > MAX_ENTRY_BYTES:
                    raise CorruptBlob(f"{found.meta['size']} bytes are too many")
                return _content(found, found.meta["size"])
        except FileNotFoundError as error:
            if _NO_BUCKET in str(error):
                raise self._no_bucket() from None
            return None

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        """Store a message under a key; return whether that was done."""
        try:
            with self._told():
                obstore.put(
                    self._store,
                    f"ac/{key.hash}",
                    entry,
                    mode="overwrite" if replace else "create",
                )
        except exceptions.AlreadyExistsError:
            return False
        except FileNotFoundError:
            raise self._no_bucket() from None
        return True

    def close(self) -> None:
        """Nothing to do: obstore closes what is idle."""

    def _size(self, digest: Digest) -> int | None:
        try:
            with self._told():
                return obstore.head(self._store, _blob(digest))["size"]
        except FileNotFoundError:
            return None

    def _no_bucket(self) -> RemoteUnavailable:
        return RemoteUnavailable(f"{self.address}: no such bucket", _CHECK)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Tell errors in the words of a store, but for those that are answers."""
        try:
            yield
        except (FileNotFoundError, exceptions.AlreadyExistsError):
            raise
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise RemoteUnavailable(f"{self.address}: {_kind(error)}", _CHECK) from None
        except (exceptions.BaseError, OSError) as error:
            raise Interrupted(f"{self.address}: {_kind(error)}", _CHECK) from None


def _content(found: GetResult, size: int) -> bytes:
    """Return the body of an answer, which may have more bytes than it says; none of those is kept."""
    parts, left = [], size
    for part in found.stream(min_chunk_size=_PIECE):
        left -= len(part)
        if left < 0:
            raise CorruptBlob(f"more bytes than the {size} that the server said")
        parts.append(bytes(part))
    return b"".join(parts)


def _blob(digest: Digest) -> str:
    return f"cas/{digest.hash}"


def _kind(error: Exception) -> str:
    """Name an error; its text is long, and has what the server said in it."""
    return type(error).__name__.removesuffix("Error")
