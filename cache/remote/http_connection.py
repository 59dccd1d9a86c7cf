"""Connections to servers of HTTP: one exchange after another on each, with time limits."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cache import parallel
from cache.errors import Interrupted, RemoteUnavailable
from cache.remote.timed_socket import TimedSocket

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_CONNECT = 10.0  # seconds until a server that is there has accepted a connection
_PART = 1 << 18
_SHORT = 1 << 16
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]  # scheme, host, port
Parts = Callable[[], Iterable[bytes]]  # of a body, from its start on whenever it is called


@dataclass(frozen=True)
class Request:
    """What is asked of a server. size: about how many bytes go or come."""

    method: str
    target: str
    headers: Mapping[str, str]
    parts: Parts = tuple
    size: int = 0


class Connection:
    """A connection to one origin, for one exchange after another.

    It is made when it is first needed, and again where the server closed it meanwhile, as it may.
    """

    def __init__(self, inner: http.client.HTTPConnection, origin: Origin, seconds: float) -> None:
        inner.timeout = min(seconds, _CONNECT)
        self.origin = origin
        self._inner: Any = inner  # its socket is replaced by one with time limits
        self._seconds = seconds
        self._answers = 0  # since it was made
        self._asked: Request
        self._refused = False

    def open(self) -> None:
        """Make the connection, unless it is made."""
        if self._inner.sock is None:
            self._inner.connect()
            connected: Any = self._inner.sock
            self._inner.sock = TimedSocket(connected, self._seconds)
            self._answers = 0

    def ask(self, request: Request) -> None:
        """Send a request."""
        self._asked = request
        if self._inner.sock is not None:
            with contextlib.suppress(ConnectionError):
                self._send(request)
                return
            self.close()
        self._send(request)

    def answer(self) -> http.client.HTTPResponse:
        """Return the answer to what was asked, of which the body is not read yet."""
        try:
            response: http.client.HTTPResponse = self._inner.getresponse()
        except (ConnectionError, http.client.BadStatusLine):
            if not self._answers:
                raise
            self.close()
            self._send(self._asked)
            response = self._inner.getresponse()
        if self._refused:
            response.will_close = True
        self._answers += 1
        return response

    def serves_one(self) -> bool:
        """Return whether the server closes it after its first answer."""
        return self._answers == 1 and self._inner.sock is None

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def _send(self, request: Request) -> None:
        inner = self._inner
        self.open()
        inner.sock.begin(request.size)
        inner.putrequest(request.method, request.target, skip_accept_encoding=True)
        for name, value in request.headers.items():
            inner.putheader(name, value)
        inner.endheaders()
        self._refused = False
        try:
            for part in request.parts():
                inner.send(part)
        except ConnectionError:  # refused before it was all sent: the answer says why
            self._refused = True


class Connections:
    """The connections of this process that nobody uses. Safe between threads.

    seconds: the longest silence of a server. context: of TLS, for an origin.
    """

    def __init__(self, seconds: float, context: Callable[[Origin], ssl.SSLContext]) -> None:
        self._seconds = seconds
        self._context = context
        self._idle: dict[Origin, list[Connection]] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def take(self, origin: Origin) -> Connection:
        """Return a connection that nobody uses."""
        with self._lock:
            if self._process != os.getpid():  # those of the parent stay the parent's
                self._idle, self._process = {}, os.getpid()
            idle = self._idle.get(origin)
            if idle:
                return idle.pop()
        scheme, host, port = origin
        if scheme == "http":
            return Connection(http.client.HTTPConnection(host, port), origin, self._seconds)
        inner = http.client.HTTPSConnection(host, port, context=self._context(origin))
        return Connection(inner, origin, self._seconds)

    def keep(self, connection: Connection) -> None:
        """Take back a connection of which every answer was read."""
        with self._lock:
            self._idle.setdefault(connection.origin, []).append(connection)

    def answers(
        self, origin: Origin, requests: Iterable[Request], most: int = parallel.THREADS
    ) -> Generator[http.client.HTTPResponse, None, None]:
        """Yield the answers to requests in order, up to the first one that does not come.

        So many connections are used, and as many requests are under way, all in this thread: less
        work than a thread for each. An answer has to be read before the next one is taken; one
        that is not is the last one. A server that closes each connection after one answer gives
        one: threads connect faster.
        """
        free = deque(self.take(origin) for _ in range(most))
        asked: deque[Connection] = deque()
        rest = iter(requests)
        try:
            parallel.each(Connection.open, list(free))
            while True:
                while free and (request := next(rest, None)):
                    asked.append(free.popleft())
                    asked[-1].ask(request)
                if not asked:
                    return
                response = asked[0].answer()
                yield response
                if not (response.isclosed() or response.length == 0) or asked[0].serves_one():
                    return
                response.close()
                free.append(asked.popleft())
        except (OSError, http.client.HTTPException):
            return
        finally:
            for connection in asked:
                connection.close()
            for connection in free:
                self.keep(connection)

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()


@contextlib.contextmanager
def told(address: str) -> Iterator[None]:
    """Tell what can happen to a connection in the words of a store."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise RemoteUnavailable(
            f"{address}: {error.verify_message}", "check its certificate, or the authority for it"
        ) from None
    except TimeoutError:
        raise Interrupted(f"{address}: gives no answer in time", "try again later") from None
    except OSError as error:
        raise Interrupted(
            f"{address}: {error.strerror or 'the connection broke'}",
            "check the address of the remote cache",
        ) from None
    except http.client.HTTPException as error:
        raise Interrupted(
            f"{address}: no HTTP answer ({type(error).__name__})",
            "check the address of the remote cache",
        ) from None


def read(address: str, response: http.client.HTTPResponse) -> bytes:
    """Return the next part of an answer's body, empty at its end."""
    with told(address):
        return response.read1(_PART)


def drain(response: http.client.HTTPResponse) -> None:
    """Read a short rest, so that the connection can be used again."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        response.read(_SHORT)


def origin_of(url: SplitResult) -> Origin:
    """Return where a URL leads; ValueError if its port is none."""
    return url.scheme, url.hostname or "", url.port or _PORTS.get(url.scheme, 0)
