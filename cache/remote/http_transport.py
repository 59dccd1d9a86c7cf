"""Bazel's HTTP cache, as nginx and bazel-remote serve it: GET, HEAD and PUT of /ac/ and /cas/.

https://bazel.build/remote/caching#http-caching
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, BinaryIO

from cache import parallel, streaming
from cache.errors import CacheError, CorruptBlob, Interrupted, MissingBlob, RemoteUnavailable, said
from cache.remote.http_connection import Connections, Request, drain, origin_of, read, told
from cache.remote.transport import MAX_ENTRY_BYTES, OneByOne

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence
    from urllib.parse import SplitResult

    from cache.digest import Digest
    from cache.remote.credentials import Credentials
    from cache.remote.http_connection import Parts

_MOVED = frozenset((301, 302, 303, 307, 308))
_ABSENT = frozenset((404, 410))
_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
_REDIRECTS = 5
_AGENT = "olmill"
_CHECK = "check the address of the remote cache"
_LATER = "try again later"

Headers = Mapping[str, str]


class HttpTransport(OneByOne):
    """A `Transport` of Bazel's HTTP cache at a URL, to which `/ac/` and `/cas/` are appended.

    seconds: the longest silence of the server.

    Raises:
        CacheError: the files of the credentials cannot be used.
    """

    forks = True
    write_once = False

    def __init__(self, address: str, credentials: Credentials, seconds: float = 30.0) -> None:
        self.address = address.rstrip("/")
        self._base = urllib.parse.urlsplit(self.address)
        self._origin = origin_of(self._base)
        self._authorization = credentials.authorization(self._origin[1])
        context = functools.cache(lambda own: credentials.context(own=own))
        if self._base.scheme == "https":
            context(own=True)
        self._connections = Connections(seconds, lambda origin: context(own=origin == self._origin))

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the blobs that the server does not have, or in another size."""
        wanted = list(digests)
        held = {}
        many = wanted if len(wanted) > 1 else ()
        with self._answers("HEAD", [f"/cas/{digest.hash}" for digest in many]) as answers:
            for digest, response in zip(many, answers, strict=False):
                if response.status not in _ABSENT and response.status != http.client.OK:
                    break
                held[digest] = _holds(response, digest)
        rest = [digest for digest in wanted if digest not in held]
        held |= zip(rest, parallel.each(self._holds, rest), strict=True)
        return {digest for digest in wanted if not held[digest]}

    def receive(self, digest: Digest, offset: int) -> Iterator[bytes]:
        """Yield a blob's bytes from `offset` on."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        expected = digest.size - offset
        with self._get(f"/cas/{digest.hash}", headers, digest.size) as response:
            if response is None:
                raise MissingBlob(f"blob {digest} is not there")
            skip = offset if response.status == http.client.OK else 0
            if response.length not in (None, expected + skip):
                raise CorruptBlob(f"blob {digest}: the server has {response.length} bytes")
            size = 0
            while size < expected + skip and (part := read(self.address, response)):
                size += len(part)
                if size > skip:
                    yield part[max(0, len(part) - (size - skip)) :] if skip else part
            if size < expected + skip:
                raise Interrupted(f"{self.address}: the connection broke")
            if response.length is None and read(self.address, response):
                raise CorruptBlob(f"blob {digest}: more bytes than that")

    def send(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob, the content of a file."""
        self._put(f"/cas/{digest.hash}", lambda: streaming.send(source, digest), digest.size)

    def get_entry(self, key: Digest) -> bytes | None:
        """Return the message under a key, or None."""
        with self._get(f"/ac/{key.hash}", {}, 0) as response:
            return None if response is None else _entry(self.address, response)

    def get_entries(self, keys: Sequence[Digest]) -> dict[Digest, bytes | None]:
        """Return the messages under keys, up to the first one that does not come."""
        found: dict[Digest, bytes | None] = {}
        with (
            self._answers("GET", [f"/ac/{key.hash}" for key in keys]) as answers,
            contextlib.suppress(CacheError),
        ):
            for key, response in zip(keys, answers, strict=False):
                if response.status in _ABSENT:
                    drain(response)
                    found[key] = None
                elif response.status == http.client.OK:
                    found[key] = _entry(self.address, response)
                else:
                    break
        return found

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        """Store a message under a key, replacing an earlier one in any case."""
        del replace
        self._put(f"/ac/{key.hash}", lambda: (entry,), len(entry))
        return True

    def close(self) -> None:
        """Close idle connections."""
        self._connections.close()

    def _holds(self, digest: Digest) -> bool:
        with self._get(f"/cas/{digest.hash}", {}, 0, method="HEAD") as response:
            return response is not None and _holds(response, digest)

    def _answers(
        self, method: str, paths: Sequence[str]
    ) -> contextlib.closing[Generator[http.client.HTTPResponse, None, None]]:
        """Return the answers to requests in order, up to the first one that does not come."""
        requests = (self._request(method, self._base.path + path) for path in paths)
        most = min(parallel.THREADS, len(paths))
        return contextlib.closing(self._connections.answers(self._origin, requests, most))

    @contextlib.contextmanager
    def _get(
        self, path: str, headers: Headers, size: int, method: str = "GET"
    ) -> Iterator[http.client.HTTPResponse | None]:
        """Yield the answer of the server, or of that to which it redirects; None if absent."""
        url = self._base._replace(path=self._base.path + path)
        for _ in range(_REDIRECTS):
            with self._exchange(method, url, headers, tuple, size) as response:
                if response.status in _ABSENT:
                    drain(response)
                    yield None
                    return
                if response.status in (http.client.OK, http.client.PARTIAL_CONTENT):
                    yield response
                    return
                url = self._moved(url, response)
        raise RemoteUnavailable(f"{self.address}: redirects without end", _CHECK)

    def _put(self, path: str, parts: Parts, size: int) -> None:
        url = self._base._replace(path=self._base.path + path)
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        with self._exchange("PUT", url, headers, parts, size) as response:
            if not 200 <= response.status < 300:
                raise self._refusal(response)
            drain(response)

    def _moved(self, url: SplitResult, response: http.client.HTTPResponse) -> SplitResult:
        location = response.headers.get("Location")
        if response.status not in _MOVED or not location:
            raise self._refusal(response)
        try:
            target = urllib.parse.urlsplit(urllib.parse.urljoin(url.geturl(), location))
            scheme, host, _ = origin_of(target)
        except ValueError:
            scheme = host = ""
        if scheme not in ("http", "https") or not host or (url.scheme, scheme) == ("https", "http"):
            raise RemoteUnavailable(f"{self.address}: redirects to {location[:200]!r}", _CHECK)
        drain(response)
        return target

    def _refusal(self, response: http.client.HTTPResponse) -> RemoteUnavailable:
        text = f"{self.address}: {response.status} {said(response.reason, 80)}".rstrip()
        if response.status in _BUSY:
            after = response.headers.get("Retry-After", "")
            return Interrupted(
                text, _LATER, float(after) if after.isascii() and after.isdigit() else 0
            )
        if response.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            return RemoteUnavailable(text, "check the token, the netrc file or the certificate")
        return RemoteUnavailable(text, _CHECK)

    @contextlib.contextmanager
    def _exchange(
        self, method: str, url: SplitResult, headers: Headers, parts: Parts, size: int
    ) -> Iterator[http.client.HTTPResponse]:
        """Yield the answer to a request; its connection is used again if all of it was read."""
        connection = self._connections.take(origin_of(url))
        try:
            with told(self.address):
                target = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
                own = connection.origin == self._origin
                connection.ask(self._request(method, target, headers, parts, size, own=own))
                response = connection.answer()
        except BaseException:
            connection.close()
            raise
        kept = False
        try:
            yield response
            kept = (response.length == 0 or response.isclosed()) and not response.will_close
        finally:
            response.close()
            if kept:
                self._connections.keep(connection)
            else:
                connection.close()

    def _request(
        self,
        method: str,
        target: str,
        headers: Headers | None = None,
        parts: Parts = tuple,
        size: int = 0,
        *,
        own: bool = True,
    ) -> Request:
        """Return a request. own: whether the server is the one that the credentials are for."""
        sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **(headers or {})}
        if own and self._authorization:
            sent["Authorization"] = self._authorization
        return Request(method, target, sent, parts, size)


def _holds(response: http.client.HTTPResponse, digest: Digest) -> bool:
    """Return whether an answer to HEAD says that the server has a blob."""
    length = response.headers.get("Content-Length")  # http.client ignores that of a HEAD
    return response.status == http.client.OK and length in (None, str(digest.size))


def _entry(address: str, response: http.client.HTTPResponse) -> bytes:
    """Return the body of an answer.

    Raises:
        CorruptBlob: it is longer than a result may be.
    """
    declared = response.length
    if declared is not None and declared > MAX_ENTRY_BYTES:
        raise CorruptBlob(f"{declared} bytes are too many")
    entry = bytearray()
    while part := read(address, response):
        entry += part
        if len(entry) > MAX_ENTRY_BYTES:
            raise CorruptBlob("more bytes than a result may have")
    if declared is not None and len(entry) < declared:
        raise Interrupted(f"{address}: the connection broke")
    return bytes(entry)
