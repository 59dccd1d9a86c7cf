"""Bazel's HTTP cache, as nginx and bazel-remote serve it: GET, HEAD and PUT of /ac/ and /cas/.

https://bazel.build/remote/caching#http-caching
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from cache import parallel, streaming
from cache.errors import CorruptBlob, Interrupted, MissingBlob, RemoteUnavailable, said
from cache.remote.timed_socket import TimedSocket
from cache.remote.transport import MAX_ENTRY_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from urllib.parse import SplitResult

    from cache.digest import Digest
    from cache.remote.credentials import Credentials

_PART = 1 << 18
_MOVED = frozenset((301, 302, 303, 307, 308))
_ABSENT = frozenset((404, 410))
_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
_REDIRECTS = 5
_AGENT = "olmill"
_SHORT = 1 << 16
_CONNECT = 10.0  # seconds until a server that is there has accepted a connection
_PORTS = {"http": 80, "https": 443}
_CHECK = "check the address of the remote cache"
_LATER = "try again later"

Origin = tuple[str, str, int]  # scheme, host, port
Headers = Mapping[str, str]
Parts = Callable[[], Iterable[bytes]]  # of a body, from its start on whenever it is called


class HttpTransport:
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
        self._origin = _origin(self._base)
        self._authorization = credentials.authorization(self._origin[1])
        self._context = functools.cache(lambda own: credentials.context(own=own))
        if self._base.scheme == "https":
            self._context(True)
        self._seconds = seconds
        self._idle: dict[Origin, list[_Connection]] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Return those of the blobs that the server does not have, or in another size."""
        wanted = list(digests)
        held = parallel.each(self._holds, wanted)
        return {digest for digest, there in zip(wanted, held, strict=True) if not there}

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
            while size < expected + skip and (part := _read(self.address, response)):
                size += len(part)
                if size > skip:
                    yield part[max(0, len(part) - (size - skip)) :] if skip else part
            if size < expected + skip:
                raise Interrupted(f"{self.address}: the connection broke")
            if response.length is None and _read(self.address, response):
                raise CorruptBlob(f"blob {digest}: more bytes than that")

    def send(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob, the content of a file."""
        self._put(f"/cas/{digest.hash}", lambda: streaming.send(source, digest), digest.size)

    def get_entry(self, key: Digest) -> bytes | None:
        """Return the message under a key, or None."""
        with self._get(f"/ac/{key.hash}", {}, 0) as response:
            if response is None:
                return None
            declared = response.length
            if declared is not None and declared > MAX_ENTRY_BYTES:
                raise CorruptBlob(f"{declared} bytes are too many")
            entry = bytearray()
            while part := _read(self.address, response):
                entry += part
                if len(entry) > MAX_ENTRY_BYTES:
                    raise CorruptBlob("more bytes than a result may have")
            if declared is not None and len(entry) < declared:
                raise Interrupted(f"{self.address}: the connection broke")
            return bytes(entry)

    def get_entries(self, keys: Sequence[Digest]) -> dict[Digest, bytes | None]:
        """Return nothing: requests for many are requests for each."""
        del keys
        return {}

    def put_entry(self, key: Digest, entry: bytes, *, replace: bool = True) -> bool:
        """Store a message under a key, replacing an earlier one in any case."""
        del replace
        self._put(f"/ac/{key.hash}", lambda: (entry,), len(entry))
        return True

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _holds(self, digest: Digest) -> bool:
        with self._get(f"/cas/{digest.hash}", {}, 0, method="HEAD") as response:
            if response is None:
                return False
            length = response.headers.get("Content-Length")  # http.client ignores that of a HEAD
            return length is None or length == str(digest.size)

    @contextlib.contextmanager
    def _get(
        self, path: str, headers: Headers, size: int, method: str = "GET"
    ) -> Iterator[http.client.HTTPResponse | None]:
        """Yield the answer of the server, or of that to which it redirects; None if absent."""
        url = self._base._replace(path=self._base.path + path)
        for _ in range(_REDIRECTS):
            with self._exchange(method, url, headers, tuple, size) as response:
                if response.status in _ABSENT:
                    _drain(response)
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
            _drain(response)

    def _moved(self, url: SplitResult, response: http.client.HTTPResponse) -> SplitResult:
        location = response.headers.get("Location")
        if response.status not in _MOVED or not location:
            raise self._refusal(response)
        try:
            target = urllib.parse.urlsplit(urllib.parse.urljoin(url.geturl(), location))
            scheme, host, _ = _origin(target)
        except ValueError:
            scheme = host = ""
        if scheme not in ("http", "https") or not host or (url.scheme, scheme) == ("https", "http"):
            raise RemoteUnavailable(f"{self.address}: redirects to {location[:200]!r}", _CHECK)
        _drain(response)
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
        connection = self._connection(_origin(url))
        try:
            with _told(self.address):
                target = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
                sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
                if connection.origin == self._origin and self._authorization:
                    sent["Authorization"] = self._authorization  # never for another host
                response = connection.exchange(method, target, sent, parts, size)
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
                with self._lock:
                    self._idle.setdefault(connection.origin, []).append(connection)
            else:
                connection.close()

    def _connection(self, origin: Origin) -> _Connection:
        """Return a connection that nobody uses."""
        with self._lock:
            if self._process != os.getpid():  # those of the parent stay the parent's
                self._idle, self._process = {}, os.getpid()
            idle = self._idle.get(origin)
            if idle:
                return idle.pop()
        scheme, host, port = origin
        if scheme == "http":
            return _Connection(http.client.HTTPConnection(host, port), origin, self._seconds)
        context = self._context(origin == self._origin)
        return _Connection(
            http.client.HTTPSConnection(host, port, context=context), origin, self._seconds
        )


class _Connection:
    """A connection to one origin, for one exchange after another."""

    def __init__(self, inner: http.client.HTTPConnection, origin: Origin, seconds: float) -> None:
        inner.timeout = min(seconds, _CONNECT)
        self.origin = origin
        self._inner: Any = inner  # its socket is replaced by one with time limits
        self._seconds = seconds

    def exchange(
        self, method: str, target: str, headers: Headers, parts: Parts, size: int
    ) -> http.client.HTTPResponse:
        """Return the answer to a request, of which the body is not read yet."""
        if self._inner.sock is not None:
            with contextlib.suppress(ConnectionError, http.client.BadStatusLine):
                return self._exchange(method, target, headers, parts, size)
            self._inner.close()  # the server had closed it meanwhile, as it may
        return self._exchange(method, target, headers, parts, size)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def _exchange(
        self, method: str, target: str, headers: Headers, parts: Parts, size: int
    ) -> http.client.HTTPResponse:
        inner = self._inner
        if inner.sock is None:
            inner.connect()
            connected: Any = inner.sock
            inner.sock = TimedSocket(connected, self._seconds)
        inner.sock.begin(size)
        inner.putrequest(method, target, skip_accept_encoding=True)
        for name, value in headers.items():
            inner.putheader(name, value)
        inner.endheaders()
        try:
            for part in parts():
                inner.send(part)
        except ConnectionError:  # refused before it was all sent: the answer says why
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                answer: http.client.HTTPResponse = inner.getresponse()
                answer.will_close = True
                return answer
            raise
        response: http.client.HTTPResponse = inner.getresponse()
        return response


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
    """Tell what can happen to a connection in the words of a store."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise RemoteUnavailable(
            f"{address}: {error.verify_message}", "check its certificate, or the authority for it"
        ) from None
    except TimeoutError:
        raise Interrupted(f"{address}: gives no answer in time", _LATER) from None
    except OSError as error:
        raise Interrupted(
            f"{address}: {error.strerror or 'the connection broke'}", _CHECK
        ) from None
    except http.client.HTTPException as error:
        raise Interrupted(f"{address}: no HTTP answer ({type(error).__name__})", _CHECK) from None


def _read(address: str, response: http.client.HTTPResponse) -> bytes:
    with _told(address):
        return response.read1(_PART)


def _drain(response: http.client.HTTPResponse) -> None:
    """Read a short rest, so that the connection can be used again."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        response.read(_SHORT)


def _origin(url: SplitResult) -> Origin:
    return url.scheme, url.hostname or "", url.port or _PORTS.get(url.scheme, 0)
