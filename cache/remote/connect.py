"""From an address to the store behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cache.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cache.execution.executor import Executor
    from cache.remote.credentials import Credentials
    from cache.remote.store import RemoteStore
    from cache.remote.transport import Transport

SCHEMES = ("http", "https", "grpc", "grpcs", "s3")
EXECUTOR_SCHEMES = ("grpc", "grpcs")


def check_address(address: str) -> None:
    """Accept the address of a remote store.

    Raises:
        CacheError: it is no URL of a known scheme with a host, or has a password in it.
    """
    _check(address, SCHEMES, "remote cache", "OLMILL_REMOTE_CACHE_TOKEN")


def check_executor(address: str) -> None:
    """Accept the address of a server that executes actions.

    Raises:
        CacheError: it is no URL of the Remote Execution API, or has a password in it.
    """
    _check(address, EXECUTOR_SCHEMES, "remote executor", "OLMILL_REMOTE_EXECUTOR_TOKEN")


def _check(address: str, schemes: Sequence[str], what: str, token: str) -> None:
    try:
        url = urlsplit(address)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise CacheError(
            f"not the address of a {what}: {address[:200]!r} ({error})",
            "write it like grpc://cache.example.org:8980",
        ) from None
    if url.scheme not in schemes or not host:
        known = ", ".join(f"{scheme}://" for scheme in schemes)
        raise CacheError(
            f"not the address of a {what}: {address[:200]!r}", f"it begins with one of {known}"
        )
    if url.username is not None or url.password is not None:
        raise CacheError(
            f"the address of the {what} at {host} has a user or a password in it",
            f"put them into a netrc file, or a token into {token}",
        )
    if url.query or url.fragment:
        raise CacheError(
            f"the address of a {what} ends with its path: {address[:200]!r}",
            "leave out what is behind ? or #",
        )


def connect(address: str, credentials: Credentials, *, compression: bool = True) -> RemoteStore:
    """Return the store at an address; nothing is sent yet.

    compression: whether blobs may be compressed on their way, where the server takes that.

    Raises:
        CacheError: the address or the files of the credentials cannot be used, or the packages
            for its scheme are not installed.
    """
    from cache.remote.retrying import RetryingTransport  # noqa: PLC0415  (as above)
    from cache.remote.store import RemoteStore  # noqa: PLC0415  (not where only an address is checked)

    check_address(address)
    return RemoteStore(RetryingTransport(_transport(address, credentials, compression=compression)))


def connect_executor(
    address: str, credentials: Credentials, *, compression: bool = True
) -> Executor:
    """Return what runs actions on the server at an address, grpc:// or grpcs://; nothing is sent yet.

    compression: as for `connect`.

    Raises:
        CacheError: the files of the credentials cannot be used, or grpcio is not installed.
    """
    try:
        from cache.execution.executor import Executor  # noqa: PLC0415  (as below)
        from cache.remote.grpc_transport import GrpcTransport  # noqa: PLC0415
    except ImportError as error:
        raise _absent("a remote executor", error) from None
    return Executor(GrpcTransport(address, credentials, compression=compression))


def _absent(what: str, error: ImportError) -> CacheError:
    return CacheError(f"{what} needs the package {error.name}", "run: python3 bootstrap.py remote")


def _transport(address: str, credentials: Credentials, *, compression: bool) -> Transport:
    """Each protocol is imported when it is used, and has packages of its own."""
    scheme = urlsplit(address).scheme
    try:
        if scheme in ("grpc", "grpcs"):
            from cache.remote.grpc_transport import GrpcTransport  # noqa: PLC0415

            return GrpcTransport(address, credentials, compression=compression)
        if scheme == "s3":
            from cache.remote.s3_transport import S3Transport  # noqa: PLC0415

            return S3Transport(address)
    except ImportError as error:
        raise _absent(f"{scheme}://", error) from None
    from cache.remote.http_transport import HttpTransport  # noqa: PLC0415

    return HttpTransport(address, credentials)
