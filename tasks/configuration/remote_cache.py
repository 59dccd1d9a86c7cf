"""Which remote cache a build reads and writes: `[cache]` of the matrix, and the environment over it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import signing
from cache.errors import CacheError
from cache.local.store import LocalStore
from cache.remote.connect import check_address, connect
from cache.tiered import TieredStore
from cache.trust import Trust
from tasks.configuration.mistakes import Key, Mistakes
from tasks.errors import BuildError

if TYPE_CHECKING:
    from cache.remote.credentials import Credentials
    from cache.remote.store import RemoteStore

ADDRESS = "OLMILL_REMOTE_CACHE"
READ = "OLMILL_REMOTE_CACHE_READ"
WRITE = "OLMILL_REMOTE_CACHE_WRITE"
COMPRESSION = "OLMILL_REMOTE_CACHE_COMPRESSION"
TOKEN = "OLMILL_REMOTE_CACHE_TOKEN"  # noqa: S105  the name of a variable
_SWITCHES = ("read", "write", "compression")
_FILES = ("authority", "certificate", "key")

KEYS: Mapping[str, Key] = {
    "remote": Key(
        "URL",
        "`http://`, `https://` (Bazel's HTTP cache: nginx, bazel-remote); `grpc://`, `grpcs://` "
        "(Remote Execution API v2: bazel-remote, Buildbarn, BuildGrid, buildbox-casd), where the "
        "path is the instance name; `s3://BUCKET/PREFIX`, with the `AWS_*` variables for the rest. "
        "All but HTTP need `python3 bootstrap.py remote`",
        "none",
    ),
    "read": Key("true or false", "look results up there", "true"),
    "write": Key(
        "true or false",
        "put results there: for machines that are trusted, such as CI on the main branch",
        "false",
    ),
    "compression": Key(
        "true or false",
        "compress what gains by it on its way, where the server takes zstd (`grpc://` and "
        "`grpcs://`): libraries and JSON, not weights. `false` saves time on a fast network",
        "true",
    ),
    "authority": Key(
        "path of a PEM file", "the certificates to trust, in place of the system's", "the system's"
    ),
    "certificate": Key("path of a PEM file", "this client's certificate (mTLS)", "none"),
    "key": Key("path of a PEM file", "the key of that certificate", "none"),
}


@dataclass(frozen=True)
class RemoteCache:
    """A remote cache: its URL (None for none), what it is used for, and PEM files for TLS.

    `compression` tells whether blobs may be compressed on their way.
    """

    address: str | None = None
    read: bool = True
    write: bool = False
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    compression: bool = True


def read_cache(value: Any, directory: Path, mistakes: Mistakes) -> RemoteCache:
    """Check the table `[cache]` of a matrix; paths in it start at `directory`."""
    if not isinstance(value, Mapping):
        mistakes.add("cache", f"expected a table, found {type(value).__name__}")
        return RemoteCache()
    mistakes.keys("cache", value, KEYS)
    settings: dict[str, Any] = {}
    for name in _SWITCHES:
        if name in value:
            settings[name] = value[name]
            if not isinstance(value[name], bool):
                mistakes.add(f"cache.{name}", "expected true or false")
    for name in ("remote", *_FILES):
        if name in value and not (isinstance(value[name], str) and value[name]):
            mistakes.add(f"cache.{name}", "expected a text")
        elif name in _FILES and name in value:
            settings[name] = directory / value[name]
    address = value.get("remote")
    if isinstance(address, str) and address:
        settings["address"] = address
        try:
            check_address(address)
        except CacheError as error:
            mistakes.add("cache.remote", str(error), error.hint)
    return RemoteCache(**settings)


def chosen(settings: RemoteCache, environment: Mapping[str, str]) -> RemoteCache:
    """Return the settings with what the environment says instead.

    An empty OLMILL_REMOTE_CACHE is no remote cache. The files belong to the matrix's address.

    Raises BuildError for an address that is none, or a switch that is neither 0 nor 1.
    """
    address = environment.get(ADDRESS)
    if address is not None and address.strip() != settings.address:
        address = address.strip() or None
        settings = replace(settings, address=address, authority=None, certificate=None, key=None)
        if address is not None:
            try:
                check_address(address)
            except CacheError as error:
                raise BuildError(f"{ADDRESS}: {error}", error.hint) from None
    return replace(
        settings,
        read=_switch(environment, READ, settings.read),
        write=_switch(environment, WRITE, settings.write),
        compression=_switch(environment, COMPRESSION, settings.compression),
    )


def _switch(environment: Mapping[str, str], variable: str, otherwise: bool) -> bool:
    value = environment.get(variable, "")
    if value not in ("", "0", "1"):
        raise BuildError(f"{variable} is {value!r}", "set it to 0 or 1")
    return value == "1" if value else otherwise


def open_store(
    local: Path,
    settings: RemoteCache,
    environment: Mapping[str, str],
    trust: Trust = Trust(),  # noqa: B008  it cannot be changed
) -> TieredStore:
    """Open the store in the directory `local`, with the remote one behind it; connects to nothing.

    Raises CacheError where there are keys to trust, and no package to verify signatures.
    """
    if trust.keys and settings.address is not None:
        signing.require()
    return TieredStore(
        LocalStore(local),
        _connector(settings, environment),
        reads=settings.read,
        writes=settings.write,
        trust=trust,
    )


def _connector(
    settings: RemoteCache, environment: Mapping[str, str]
) -> Callable[[], RemoteStore] | None:
    address = settings.address
    if address is None:
        return None
    return lambda: connect(
        address, credentials(settings, environment), compression=settings.compression
    )


def credentials(
    files: RemoteCache, environment: Mapping[str, str], token: str = TOKEN
) -> Credentials:
    """Return what a server is shown: the PEM files of the settings, and what the environment has.

    `token` names the variable with the bearer token.

    Raises CacheError for a token that no header could hold; no message shows it.
    """
    from cache.remote.credentials import Credentials  # noqa: PLC0415  (loads TLS: not on a no-op)

    netrc = environment.get("NETRC")
    bearer = environment.get(token, "").strip()
    if not (bearer.isascii() and bearer.isprintable()) or " " in bearer:
        raise CacheError(
            f"{token} is no token: there is a space, a line end or a strange letter in it",
            "set it to the token alone",
        )
    return Credentials(
        token=bearer or None,
        netrc=Path(netrc) if netrc else Path.home() / ".netrc",
        authority=files.authority,
        certificate=files.certificate,
        key=files.key,
    )
