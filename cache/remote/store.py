"""A store on a server, of which nothing is believed unverified.

A `Transport` moves the bytes. Here they are held against their digests, results against their
keys, and each result against the blobs that it names and the keys that are trusted.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cache import parallel, sealing, streaming
from cache.digest import of_bytes
from cache.errors import CacheError, CorruptBlob, MissingBlob, RemoteUnavailable, unavailable
from cache.execution.worker_result import result_of
from cache.trust import Trust, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from cache.action import ActionResult
    from cache.digest import Digest
    from cache.remote.transport import Transport


class RemoteStore:
    """A `Store` on a server.

    refused: is told what the server gave that cannot be used, other than by an exception. A blob
    that came damaged counts as missing from then on, until it is stored again. trust: whose results
    are believed, and who signs those that are put there. distrusted: is told of those that are
    not believed. workers: whether results are used that workers of the server wrote, who seal nothing.
    """

    def __init__(
        self,
        transport: Transport,
        refused: Callable[[CacheError], None] = lambda _: None,
        trust: Trust = Trust(),  # noqa: B008  it cannot be changed
        *,
        workers: bool = False,
    ) -> None:
        self._transport = transport
        self._workers = workers
        self.refused = refused
        self.trust = trust
        self.distrusted: Callable[[Digest, Verdict], None] = lambda _, __: None
        self.address = transport.address
        self.forks = transport.forks
        self.damaged: set[Digest] = set()

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the digests whose blobs the server does not say to hold."""
        wanted = set(digests)
        damaged = wanted & self.damaged
        asked = wanted - damaged
        return damaged | (asked & self._transport.missing(asked) if asked else set())

    def read(self, digest: Digest) -> bytes:
        """Return a blob, verified; MissingBlob or CorruptBlob if there is none."""
        into = io.BytesIO()
        self.download(digest, into)
        return into.getvalue()

    def write(self, data: bytes) -> Digest:
        """Store a blob and return its digest."""
        digest = of_bytes(data)
        self.upload(digest, io.BytesIO(data))
        return digest

    def download(self, digest: Digest, into: BinaryIO) -> None:
        """Replace the content of an open file by a blob, verified, in parts."""
        if digest in self.damaged:
            raise CorruptBlob(f"{self.address}: blob {digest} came damaged")
        try:
            streaming.receive(self._transport.receive(digest, 0), digest, into)
        except MissingBlob:
            raise MissingBlob(f"{self.address}: blob {digest} is not there") from None
        except CorruptBlob as error:
            self.damaged.add(digest)
            raise CorruptBlob(f"{self.address}: {error}") from None

    def upload(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob that is all of an open file's content, in parts."""
        self._transport.send(digest, source)
        self.damaged.discard(digest)

    def download_many(self, digests: Collection[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Yield those of the blobs, verified, that are small and come at once; `download` the rest."""
        asked = [digest for digest in digests if digest not in self.damaged]
        for digest, data in self._transport.receive_many(asked):
            if of_bytes(data) == digest:
                yield digest, data

    def upload_many(
        self,
        contents: Mapping[Digest, bytes | Path],
        stored: Callable[[Digest], None] = lambda _: None,
    ) -> None:
        """Store blobs, of which there are the bytes or a file: small ones together, others in parallel.

        stored: is told of each.

        Raises:
            CorruptBlob, MissingBlob: a file holds something else, or is not there; it is not stored.
        """
        rest = dict(contents)

        def read(digest: Digest) -> bytes:
            with _opened(digest, contents[digest]) as source:
                return b"".join(streaming.send(source, digest))

        def upload(digest: Digest) -> None:
            with _opened(digest, rest[digest]) as source:
                self.upload(digest, source)
            stored(digest)

        for digest in self._transport.send_many(contents.keys(), read):
            del rest[digest]
            self.damaged.discard(digest)
            stored(digest)
        parallel.each(upload, sorted(rest))

    def get_result(self, key: Digest) -> ActionResult | None:
        """Return the result of an action, or None if there is no complete one."""
        return self.get_results([key]).get(key)

    def get_results(self, keys: Iterable[Digest]) -> dict[Digest, ActionResult]:
        """Return the complete results of actions by key that are believed, asked for in parallel.

        Blobs that the server says to hold count as held: only reading one tells.
        """
        believed = {}
        for key, result in self.claims(keys).items():
            verdict = self.trust.judge(key, result).verdict
            if self.trust.believes(verdict):
                believed[key] = result
            else:
                self.distrusted(key, verdict)
        return believed

    def claims(self, keys: Iterable[Digest]) -> dict[Digest, ActionResult]:
        """Return the complete results of actions by key, whoever made them."""
        found: dict[Digest, ActionResult] = {}
        wanted = list(dict.fromkeys(keys))
        come = self._transport.get_entries(wanted) if len(wanted) > 1 else {}
        for key, result in parallel.each(lambda key: self._result(key, come), wanted):
            if isinstance(result, CacheError):
                self.refused(type(result)(f"{self.address}: result {key.hash}: {result}"))
            elif result is not None:
                found[key] = result
        missing = self.missing(
            digest for result in found.values() for digest in result.outputs.values()
        )
        return {
            key: result
            for key, result in found.items()
            if missing.isdisjoint(result.outputs.values())
        }

    def put_result(self, key: Digest, result: ActionResult) -> None:
        """Remember the result of an action, signed; MissingBlob if an output's blob is missing.

        On a server whose entries are written once, a result that can be used stays, unless it
        is the same and lacks a signature.

        Raises:
            Untrusted: nobody would believe it.
        """
        self.put_results({key: result})

    def put_results(self, results: Mapping[Digest, ActionResult]) -> None:
        """Do what `put_result` does for several actions, by key; for none of them if one is refused."""
        signed = {key: self.trust.sign(key, result) for key, result in results.items()}
        entries = {key: sealing.seal_message(key, result) for key, result in signed.items()}
        outputs = {digest for result in signed.values() for digest in result.outputs.values()}
        if missing := self.missing(outputs):
            raise MissingBlob(f"{self.address}: blob {min(missing)} is not there")
        parallel.each(lambda key: self._put(key, signed[key], entries[key]), list(entries))

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def _put(self, key: Digest, result: ActionResult, entry: bytes) -> None:
        if self._transport.write_once:
            if self._transport.put_entry(key, entry, replace=False):
                return
            there = self.get_result(key)
            if there and (there != result or {*result.signatures} <= {*there.signatures}):
                return
        self._transport.put_entry(key, entry)

    def _result(
        self, key: Digest, come: Mapping[Digest, bytes | None]
    ) -> tuple[Digest, ActionResult | CacheError | None]:
        """Return a result, None if there is none, or why it cannot be used; `come`: what came."""
        try:
            entry = come[key] if key in come else self._transport.get_entry(key)
            return key, None if entry is None else self._unsealed(key, entry)
        except RemoteUnavailable:
            raise
        except CacheError as error:
            return key, error

    def _unsealed(self, key: Digest, entry: bytes) -> ActionResult:
        try:
            return sealing.unseal_message(key, entry)
        except CorruptBlob:
            if not self._workers:
                raise
            return replace(result_of(entry, self.read), fetched=True)


def _opened(digest: Digest, content: bytes | Path) -> BinaryIO:
    if isinstance(content, bytes):
        return io.BytesIO(content)
    try:
        return content.open("rb")
    except FileNotFoundError:
        raise MissingBlob(f"blob {digest} was put aside or collected meanwhile") from None
    except OSError as error:
        raise unavailable(error, content) from error
