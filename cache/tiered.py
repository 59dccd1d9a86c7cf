"""The store of a build: the local one, and a remote one behind it that others fill and read.

Read through: what is only remote is found, and its blobs come into the local store, verified,
when somebody needs them. Written behind: results go to the remote store while the build goes on.
A remote store that fails is warned about once and then left alone. What came from it is believed if
somebody trusted vouches for it, each time it is used.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from cache import parallel
from cache.errors import (
    CacheError,
    CorruptBlob,
    MissingBlob,
    RemoteUnavailable,
    StoreUnavailable,
    Untrusted,
)
from cache.remote.supply import Supply
from cache.trust import Judgement, Trust
from cache.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from cache.action import ActionResult
    from cache.digest import Digest
    from cache.local.store import LocalStore
    from cache.remote.store import RemoteStore

T = TypeVar("T")

Cause = tuple[str, str]  # where results are that are not believed, and why

_TOGETHER = 16 << 20  # bytes of outputs of results that are uploaded together


@dataclass(frozen=True)
class Claim:
    """A result, whether the local store has it or the remote one, and what is known of its origin."""

    result: ActionResult
    local: bool
    judgement: Judgement


@dataclass(frozen=True)
class Found:
    """The result of an action, and whether all its blobs are in the local store."""

    result: ActionResult
    local: bool


class TieredStore:
    """A `Store` over a local one and, if there is one, a remote one.

    connect: makes the remote store. reads, writes: what it is used for. required: its failures
    are errors; otherwise they are warnings and misses. trust: whose results are believed.
    """

    def __init__(
        self,
        local: LocalStore,
        connect: Callable[[], RemoteStore] | None = None,
        *,
        reads: bool = True,
        writes: bool = False,
        required: bool = False,
        trust: Trust = Trust(),  # noqa: B008  it cannot be changed
    ) -> None:
        self.trust = trust
        self.local = local
        self.reads = reads and connect is not None
        self.writes = writes and connect is not None
        self.required = required
        self._connect = connect
        self._remote: RemoteStore | None = None
        self._attached = False
        self._known: dict[Digest, ActionResult] = {}
        self._warnings: list[str] = []
        self._warned: set[str] = set()
        self._distrusted: dict[Cause, set[Digest]] = {}
        self._counted: dict[Cause, int] = {}
        self._supply: Supply | None = None
        self._uploads = Uploads(self._push)

    @property
    def remote(self) -> RemoteStore | None:
        """The remote store, connected to when it is first asked for; None if there is none.

        Raises:
            CacheError: its address or its credentials cannot be used.
        """
        if self._remote is None and self._connect is not None:
            self._remote = remote = self._connect()
            self._supply = Supply(remote)
            remote.refused = lambda error: self.warn(str(error))
            remote.distrusted = lambda key, verdict: self.distrust(
                (remote.address, f"not believed: {verdict.value}"), [key]
            )
        if self._remote is not None:
            self._remote.trust = self.trust
        return self._remote

    def warnings(self) -> list[str]:
        """Return what there is to say since the last call; nothing is said twice."""
        for (place, cause), keys in list(self._distrusted.items()):
            known = self._counted.get((place, cause), 0)
            if len(keys) > known:
                results = f"{len(keys)} result{'s' if len(keys) > 1 else ''}"
                self.warn(f"{place}: {results}{' in all' if known else ''} {cause}")
                self._counted[place, cause] = len(keys)
        return self.notices()

    def notices(self) -> list[str]:
        """Return what `warnings` does, without the count of results that are not believed."""
        told, self._warnings = self._warnings, []
        return told

    def warn(self, text: str) -> None:
        """Have something said, once."""
        if text not in self._warned:
            self._warned.add(text)
            self._warnings.append(text)

    def distrusted(self) -> dict[Cause, set[Digest]]:
        """Return the keys of results that are not believed, for the parent of a forked process."""
        return {cause: set(keys) for cause, keys in self._distrusted.items()}

    def distrust(self, cause: Cause, keys: Iterable[Digest]) -> None:
        """Have it said how many results are not believed, once for each cause."""
        self._distrusted.setdefault(cause, set()).update(keys)

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the digests whose blobs neither store holds."""
        missing = self.local.missing(digests)
        return (
            self._reading(lambda remote: remote.missing(missing), missing) if missing else missing
        )

    def read(self, digest: Digest) -> bytes:
        """Return a blob, verified; MissingBlob or CorruptBlob if there is none."""
        self.fetch([digest])
        return self.local.read(digest)

    def write(self, data: bytes) -> Digest:
        """Store a blob in the local store and return its digest."""
        return self.local.write(data)

    def download(self, digest: Digest, into: BinaryIO) -> None:
        """Replace the content of an open file by a blob, verified."""
        self.fetch([digest])
        self.local.download(digest, into)

    def upload(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob that is all of an open file's content, in the local store."""
        self.local.upload(digest, source)

    def get_result(self, key: Digest) -> ActionResult | None:
        """Return the result of an action, whose blobs one of the stores holds, or None."""
        found = self.lookup([key]).get(key)
        return found.result if found else None

    def put_result(self, key: Digest, result: ActionResult) -> None:
        """Remember the result of an action here, and `push` it; MissingBlob if a blob is missing."""
        self.local.put_result(key, result)
        self.push(key)

    def lookup(self, keys: Iterable[Digest]) -> dict[Digest, Found]:
        """Return what is known of actions, by key; no blob moves."""
        wanted = list(dict.fromkeys(keys))
        found = {
            key: Found(result, local=True)
            for key, result in self.local.get_results(wanted).items()
            if self._believes(key, result)
        }
        rest = [key for key in wanted if key not in found]
        asked = [key for key in rest if key not in self._known]
        if asked:
            nothing: dict[Digest, ActionResult] = {}
            self._known |= self._reading(lambda remote: remote.get_results(asked), nothing)
        return found | {
            key: Found(self._known[key], local=False) for key in rest if key in self._known
        }

    def claims(self, keys: Iterable[Digest]) -> dict[Digest, list[Claim]]:
        """Return what each store has of actions, by key, believed or not; no blob moves."""
        wanted = list(dict.fromkeys(keys))
        nothing: dict[Digest, ActionResult] = {}
        remote = self._reading(lambda remote: remote.claims(wanted), nothing)
        local = self.local.get_results(wanted)
        found = {}
        for key in wanted:
            both = ((local.get(key), True), (remote.get(key), False))
            found[key] = [
                Claim(result, local, self.trust.judge(key, result))
                for result, local in both
                if result is not None
            ]
        return found

    def know(self, key: Digest, result: ActionResult) -> None:
        """Remember, in this process, the result of an action whose blobs the remote store has."""
        self._known[key] = result

    def attach(self, connect: Callable[[], RemoteStore], *, reads: bool, writes: bool) -> None:
        """Put a remote store behind the local one, unless it was made with another."""
        if self._connect is None or self._attached:
            self._connect, self._remote, self._attached = connect, None, True
            self.reads, self.writes = reads, writes

    def fetch(self, digests: Iterable[Digest]) -> set[Digest]:
        """Bring blobs into the local store; return those that it still lacks.

        Raises:
            StoreUnavailable: the local store cannot take them.
        """
        wanted = sorted(self.local.missing(digests))
        if not wanted:
            return set()
        self._reading(lambda remote: self._fetch(remote, wanted), None)
        lacking = self.local.missing(wanted)
        self._known = {
            key: result
            for key, result in self._known.items()
            if lacking.isdisjoint(result.outputs.values())
        }
        return lacking

    def push(self, key: Digest, messages: Mapping[Digest, bytes] | None = None) -> None:
        """Store a result of the local store and its blobs in the remote one, in the background.

        messages: blobs beside them, of which other tools read what action the key stands for.
        """
        if self.writes and self.remote is not None:
            self._uploads.add((key, messages or {}))

    def finish(self, *, abandon: bool = False) -> None:
        """Wait until everything is pushed, or begin nothing more of it (`abandon`).

        Raises:
            RemoteUnavailable: the remote store is required and failed.
        """
        self._uploads.finish(abandon=abandon)

    def pending(self) -> int:
        """Return how many results are not pushed yet."""
        return self._uploads.pending()

    def close(self) -> None:
        """Close idle connections; a later call opens new ones."""
        if self._remote is not None:
            self._remote.close()

    def _fetch(self, remote: RemoteStore, wanted: list[Digest]) -> None:
        """Bring blobs into the local store that are there and intact: small ones together."""
        rest = dict.fromkeys(wanted)
        for digest, data in remote.download_many(wanted):
            self._receive(digest, partial(_write, data))
            del rest[digest]

        def fetch(digest: Digest) -> None:
            try:
                self._receive(digest, partial(remote.download, digest))
            except (MissingBlob, CorruptBlob) as error:
                self.warn(str(error))

        parallel.each(fetch, list(rest))

    def _receive(self, digest: Digest, fill: Callable[[BinaryIO], None]) -> None:
        """Store a blob in the local store, if there is room for it."""

        def checked(file: BinaryIO) -> None:
            free = shutil.disk_usage(self.local.root).free
            if digest.size > free:
                raise StoreUnavailable(
                    f"{self.local.root}: {free} bytes are free, and blob {digest} does not fit",
                    "free some space on that disk, or set OLMILL_CACHE_DIR to another directory",
                )
            fill(file)

        self.local.receive(digest, checked)

    def _believes(self, key: Digest, result: ActionResult) -> bool:
        """Return whether a result of the local store is believed: it may have been fetched."""
        verdict = self.trust.judge(key, result).verdict
        if self.trust.believes(verdict):
            return True
        self.distrust((str(self.local.root), f"not believed: {verdict.value}"), [key])
        return False

    def _push(self, pushed: list[tuple[Digest, Mapping[Digest, bytes]]]) -> None:
        """Store results in the remote store, small ones together, and before large ones."""
        remote, supply = self._remote, self._supply
        if remote is None or supply is None:
            return
        messages = dict(pushed)
        groups: list[dict[Digest, ActionResult]] = []
        left = 0
        for key, result in sorted(self._signed(remote, messages), key=_size):
            size = _size((key, result))
            if not groups or size > left:
                groups.append({})
                left = _TOGETHER
            groups[-1][key] = result
            left -= size
        try:
            for results in groups:
                if self.writes and not self._uploads.abandoned.is_set():
                    self._store(remote, supply, results, messages)
        except CacheError as error:
            if self.required:
                raise
            self.writes = False
            self.warn(f"{error}: nothing more is written to the remote cache")

    def _signed(
        self, remote: RemoteStore, keys: Iterable[Digest]
    ) -> Iterator[tuple[Digest, ActionResult]]:
        """Yield results as they go to others, before any blob of them does."""
        for key in keys:
            result = self.local.get_result(key) or self._known.get(key)
            if result is None:
                self._keep_back([key])
                continue
            try:
                yield key, self.trust.sign(key, result)
            except Untrusted as error:
                if self.required:
                    told = f"{remote.address}: result {key} is not written: it {error}"
                    raise Untrusted(told, error.hint) from None
                self.distrust((remote.address, f"not written: {error} ({error.hint})"), [key])

    def _store(
        self,
        remote: RemoteStore,
        supply: Supply,
        results: Mapping[Digest, ActionResult],
        messages: Mapping[Digest, Mapping[Digest, bytes]],
    ) -> None:
        """Store results in the remote store, but for those whose blobs were damaged here meanwhile."""
        beside = {d: data for key in results for d, data in messages[key].items()}
        try:
            self._send(remote, supply, results, beside)
        except (MissingBlob, CorruptBlob):
            outputs = {digest for result in results.values() for digest in result.outputs.values()}
            lost = self.local.recheck(outputs)
            if not lost:  # here is nothing wrong
                raise
            whole = {k: r for k, r in results.items() if lost.isdisjoint(r.outputs.values())}
            self._keep_back(results.keys() - whole.keys())
            if whole:
                self._store(remote, supply, whole, messages)

    def _keep_back(self, keys: Iterable[Digest]) -> None:
        """Have it said of results that they do not go to others."""
        for key in sorted(keys):
            self.warn(
                f"{self.local.root}: result {key.hash} was damaged or collected meanwhile: "
                "it is not written to the remote cache"
            )

    def _send(
        self,
        remote: RemoteStore,
        supply: Supply,
        results: Mapping[Digest, ActionResult],
        messages: Mapping[Digest, bytes],
    ) -> None:
        """Store results in the remote store, and first their blobs and the messages beside them."""
        blobs = {digest for result in results.values() for digest in result.outputs.values()}
        blobs.update(messages)

        def contents(missing: Collection[Digest]) -> Mapping[Digest, bytes | Path]:
            return {
                digest: messages[digest] if digest in messages else self.local.blob_path(digest)
                for digest in missing
            }

        supply.bring(blobs, contents)
        try:
            remote.put_results(results)
        except MissingBlob:  # the server has lost some of them since
            supply.forget()
            supply.bring(blobs, contents)
            remote.put_results(results)

    def _reading(self, operation: Callable[[RemoteStore], T], otherwise: T) -> T:
        """Return what the remote store says, or `otherwise` where it is not to be asked."""
        remote = self.remote if self.reads else None
        if remote is None:
            return otherwise
        try:
            return operation(remote)
        except RemoteUnavailable as error:
            if self.required:
                raise
            self.reads = False
            self.warn(f"{error}: going on without the remote cache")
            return otherwise


def _size(one: tuple[Digest, ActionResult]) -> int:
    """Return the bytes of a result's outputs."""
    return sum(digest.size for digest in one[1].outputs.values())


def _write(data: bytes, file: BinaryIO) -> None:
    file.write(data)
