"""What every store promises, wherever it keeps its bytes.

A store holds blobs by digest (the content-addressable storage, CAS) and results by action key
(the action cache). It answers in three ways only: the thing, "not there", or StoreUnavailable.
`cache.testing` holds the tests that every store and every wrapper around one must pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cache.action import ActionResult
    from cache.digest import Digest


class Store(Protocol):
    """Blobs by digest and results by action key.

    Every method may raise StoreUnavailable. None leaves anything half-done behind: an operation
    that raised may be tried again.
    """

    def missing(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of the digests whose blobs the store does not hold intact."""
        ...

    def read(self, digest: Digest) -> bytes:
        """Return a blob, verified against its digest.

        Raises:
            MissingBlob: the store does not hold it.
            CorruptBlob: what it held was something else, and is now gone where possible.
        """
        ...

    def write(self, data: bytes) -> Digest:
        """Store a blob and return its digest; storing it again changes nothing."""
        ...

    def download(self, digest: Digest, into: BinaryIO) -> None:
        """Replace the content of an open file by a blob, verified, in parts.

        Raises:
            MissingBlob: the store does not hold it.
            CorruptBlob: what it held was something else. The file then holds neither.
        """
        ...

    def upload(self, digest: Digest, source: BinaryIO) -> None:
        """Store a blob that is all of an open file's content, in parts.

        Raises:
            CorruptBlob: the file holds something else; nothing is stored.
        """
        ...

    def get_result(self, key: Digest) -> ActionResult | None:
        """Return the result of an action, or None.

        None also when the entry is unreadable, and when the blob of any output is missing: a
        result that cannot be used is no result (the completeness rule).
        """
        ...

    def put_result(self, key: Digest, result: ActionResult) -> None:
        """Remember the result of an action; it replaces an earlier one.

        Raises:
            MissingBlob: the store lacks the blob of an output; nothing is remembered.
            InvalidPath: an output path that no result may have.
        """
        ...
