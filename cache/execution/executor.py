"""Running actions on a server of the Remote Execution API, until each has ended one way or another.

What may pass is tried again: a lost worker, a server that starts anew, a blob that it has
forgotten. An action's own failure is told once, with what it wrote, and never remembered.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from cache import digest as digests
from cache import parallel
from cache.errors import (
    CacheError,
    CorruptBlob,
    Interrupted,
    InvalidPath,
    MissingBlob,
    RemoteUnavailable,
)
from cache.execution.operation import Cancelled, MissingInputs, Run, Stage
from cache.execution.worker_result import result_of
from cache.protocol import remote_execution_pb2 as reapi
from cache.remote.grpc_connection import CAPABILITIES
from cache.remote.retrying import Backoff, RetryingTransport
from cache.remote.store import RemoteStore
from cache.remote.supply import Supply

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from cache.action import ActionResult
    from cache.digest import Digest
    from cache.remote.grpc_transport import GrpcTransport
    from cache.remote.supply import Contents

_LOG_BYTES = 1 << 20  # of what an action wrote
_SIGNALLED = 128  # exit codes above: a signal ended the action
_STREAM = 300.0  # seconds
_REACHING = 3  # attempts to reach a server at all
_HINT = "look at the workers of the executor"


@dataclass(frozen=True)
class Executed:
    """The result of an action, whether the server had it before, and what the action wrote."""

    result: ActionResult
    cached: bool
    stdout: bytes
    stderr: bytes


class ActionFailed(CacheError):  # noqa: N818  the name is the condition, not the mechanism
    """An action ran and failed: its exit code, and what it wrote."""

    def __init__(self, exit_code: int, stdout: bytes, stderr: bytes) -> None:
        written = stderr.decode(errors="replace").strip()
        super().__init__(f"the action ended with exit code {exit_code}\n{written}")
        self.exit_code, self.stdout, self.stderr = exit_code, stdout, stderr


class _Unusable(Interrupted):
    """The server's result cannot be used: the action has to run, whatever the server has."""


class Executor:
    """Runs actions on one server. Safe between threads; each action waits in the one that asks.

    backoff: when to try an action again. stream: seconds that a stream is listened to before it
    is opened anew.
    """

    def __init__(
        self, transport: GrpcTransport, backoff: Backoff | None = None, stream: float = _STREAM
    ) -> None:
        self.address = transport.address
        self.store = RemoteStore(RetryingTransport(transport), workers=True)
        self._connection = transport.connection
        self._supply = Supply(self.store)
        self._ended = threading.Event()
        self._backoff = backoff or Backoff(8, 0.5, 20.0, sleep=self._wait)
        self._stream = stream
        self._runs: set[Run] = set()
        self._lock = threading.Lock()

    def check(self) -> None:
        """Make sure that the server can be reached and executes actions.

        Raises:
            RemoteUnavailable: it cannot, or does not.
        """
        request = reapi.GetCapabilitiesRequest(instance_name=self._connection.instance)
        failed = 0
        while True:
            try:
                found = self._connection.ask(CAPABILITIES, request, reapi.ServerCapabilities)
                break
            except Interrupted as error:
                failed += 1
                Backoff(_REACHING, sleep=self._wait).pause(failed, error)
        if not found.execution_capabilities.exec_enabled:
            raise RemoteUnavailable(
                f"{self.address}: executes no actions",
                "a server that is a cache alone belongs into [cache]",
            )

    def execute(
        self,
        key: Digest,
        blobs: Collection[Digest],
        contents: Contents,
        watch: Callable[[Stage], None] = lambda _: None,
        *,
        fresh: bool = False,
    ) -> Executed:
        """Run an action; return its result, of which the server says to have all outputs.

        blobs: the action's messages and all files of its input root; `contents(missing)` returns
        what those hold that the server lacks. `watch` is told how far the action is. fresh: whether it is
        to run even if the server has its result.

        Raises:
            ActionFailed: the action ran, and failed.
            Cancelled: `cancel` was called.
            RemoteUnavailable: the server refuses, or failed too often.
            CacheError: a file to upload holds something else, or what `contents` raises.
        """
        failures = 0
        refused: MissingInputs | None = None
        while True:
            if self._ended.is_set():
                raise Cancelled("ended before the action was")
            try:
                brought = self._supply.bring(blobs, contents, refused.named if refused else ())
                if refused is not None and not brought:
                    raise RemoteUnavailable(str(refused), refused.hint)
                refused = None
                return self._run(key, watch, fresh=fresh)
            except Interrupted as error:
                if isinstance(error, MissingInputs):
                    self._supply.forget()
                    refused = error
                fresh = fresh or isinstance(error, _Unusable)
                failures += 1
                self._backoff.pause(failures, error)

    def cancel(self) -> None:
        """End all actions, and begin no other: they raise Cancelled."""
        self._ended.set()
        with self._lock:
            runs = list(self._runs)
        parallel.each(Run.abandon, runs)

    def close(self) -> None:
        """Close idle connections."""
        self.store.close()

    def _run(self, key: Digest, watch: Callable[[Stage], None], *, fresh: bool) -> Executed:
        run = Run(
            self._connection,
            key,
            fresh=fresh,
            watch=watch,
            stream=self._stream,
            ended=self._ended,
        )
        with self._known(run):
            response = run.response()
        result = response.result
        stdout = self._log(result.stdout_raw, result.stdout_digest)
        stderr = self._log(result.stderr_raw, result.stderr_digest)
        if result.exit_code:
            self._failed(response, stdout, stderr, fresh=fresh)
        try:
            found = result_of(result.SerializeToString(), self.store.read)
        except (CorruptBlob, MissingBlob) as error:
            raise _Unusable(f"{self.address}: {error}", _HINT) from None
        except InvalidPath as error:
            raise RemoteUnavailable(f"{self.address}: no output: {error}", error.hint) from None
        if missing := self.store.missing(found.outputs.values()):
            raise _Unusable(f"{self.address}: output {min(missing)} is not there", _HINT)
        return Executed(found, response.cached_result, stdout, stderr)

    def _failed(
        self, response: reapi.ExecuteResponse, stdout: bytes, stderr: bytes, *, fresh: bool
    ) -> NoReturn:
        """Raise what a failed action means; what a server remembers of failures is not believed."""
        code = response.result.exit_code
        if response.cached_result and not fresh:
            raise _Unusable(f"{self.address}: remembers a failure (exit code {code})", _HINT)
        if not 0 < code <= _SIGNALLED:
            signal = code - _SIGNALLED if code > 0 else -code
            raise _Unusable(
                f"{self.address}: signal {signal} ended the action",
                "its worker was stopped, or has too little memory",
            )
        raise ActionFailed(code, stdout, stderr)

    @contextmanager
    def _known(self, run: Run) -> Iterator[None]:
        """Let `cancel` end a run; so does an interruption of the thread that waits for it."""
        with self._lock:
            self._runs.add(run)
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            run.abandon()
            raise
        finally:
            with self._lock:
                self._runs.discard(run)

    def _log(self, raw: bytes, digest: reapi.Digest) -> bytes:
        """Return the end of what an action wrote; nothing if it is lost or too long to fetch."""
        if raw or not 0 < digest.size_bytes <= _LOG_BYTES:
            return raw[-_LOG_BYTES:]
        try:
            return self.store.read(digests.decode(digest.SerializeToString()))
        except (MissingBlob, CorruptBlob):
            return b""

    def _wait(self, seconds: float) -> None:
        self._ended.wait(seconds)
