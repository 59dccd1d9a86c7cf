"""Which cluster runs actions, and what it is asked for: `[cluster]` of the matrix, and what is over it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache.errors import CacheError
from cache.remote.connect import check_executor, connect_executor
from tasks.configuration.mistakes import Key, Mistakes
from tasks.configuration.remote_cache import RemoteCache, credentials
from tasks.errors import BuildError

if TYPE_CHECKING:
    from cache.execution.executor import Executor

ADDRESS = "OLMILL_REMOTE_EXECUTOR"
TOKEN = "OLMILL_REMOTE_EXECUTOR_TOKEN"  # noqa: S105  the name of a variable
_FILES = ("authority", "certificate", "key")

KEYS: Mapping[str, Key] = {
    "executor": Key(
        "URL",
        "`grpc://HOST:PORT` or `grpcs://`, a server of the Remote Execution API v2 with workers; "
        "behind it the instance's name, if it has one. Needs `python3 bootstrap.py remote`",
        "none",
    ),
    "platform": Key(
        "table of texts",
        "properties of the workers to run on, such as `OSFamily`, `ISA` or `container-image`. They "
        "are part of the keys of all nodes that a cluster may run",
        "none",
    ),
    "targets": Key(
        "tables of texts by target",
        "properties beside or instead of those, for compiling and verifying for one target",
        "none",
    ),
    "programs": Key(
        "table of texts",
        "versions of programs that are no Python packages (`nvcc`, `g++`) on the workers, for a "
        "machine that lacks them",
        "none",
    ),
    "authority": Key(
        "path of a PEM file", "the certificates to trust, in place of the system's", "the system's"
    ),
    "certificate": Key("path of a PEM file", "this client's certificate (mTLS)", "none"),
    "key": Key("path of a PEM file", "the key of that certificate", "none"),
    "compression": Key("true or false", "as in `[cache]`", "true"),
}

Texts = Mapping[str, str]


@dataclass(frozen=True)
class ClusterSettings:
    """A cluster: its URL (None for none), what its workers are like, and PEM files for TLS.

    `platform` has the properties asked of a worker, `targets` more of them by target, `programs`
    the versions of what workers have beside Python packages. `compression` tells whether blobs may be
    compressed on their way.
    """

    address: str | None = None
    platform: Texts = field(default_factory=dict)
    targets: Mapping[str, Texts] = field(default_factory=dict)
    programs: Texts = field(default_factory=dict)
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    compression: bool = True

    def properties(self, target: str | None = None) -> tuple[tuple[str, str], ...]:
        """Return the platform properties of a node: of any kind, or for one target."""
        more = self.targets.get(target, {}) if target is not None else {}
        return tuple(sorted({**self.platform, **more}.items()))


def read_cluster(
    value: Any, directory: Path, targets: Collection[str], mistakes: Mistakes
) -> ClusterSettings:
    """Check the table `[cluster]` of a matrix; paths in it start at `directory`."""
    if not isinstance(value, Mapping):
        mistakes.add("cluster", f"expected a table, found {type(value).__name__}")
        return ClusterSettings()
    mistakes.keys("cluster", value, KEYS)
    settings: dict[str, Any] = {}
    for name in ("executor", *_FILES):
        if name in value and not (isinstance(value[name], str) and value[name]):
            mistakes.add(f"cluster.{name}", "expected a text")
        elif name in _FILES and name in value:
            settings[name] = directory / value[name]
    if "compression" in value:
        settings["compression"] = value["compression"]
        if not isinstance(value["compression"], bool):
            mistakes.add("cluster.compression", "expected true or false")
    for name in ("platform", "programs"):
        settings[name] = _texts(f"cluster.{name}", value.get(name, {}), mistakes)
    settings["targets"] = _by_target(value.get("targets", {}), targets, mistakes)
    address = value.get("executor")
    if isinstance(address, str) and address:
        settings["address"] = address
        try:
            check_executor(address)
        except CacheError as error:
            mistakes.add("cluster.executor", str(error), error.hint)
    return ClusterSettings(**settings)


def _by_target(value: Any, targets: Collection[str], mistakes: Mistakes) -> Mapping[str, Texts]:
    if not isinstance(value, Mapping):
        mistakes.add("cluster.targets", f"expected tables, found {type(value).__name__}")
        return {}
    for name in value:
        if name not in targets:
            mistakes.unknown(f"cluster.targets.{name}", "target", name, targets)
    return {
        name: _texts(f"cluster.targets.{name}", table, mistakes) for name, table in value.items()
    }


def _texts(where: str, value: Any, mistakes: Mistakes) -> Texts:
    if not isinstance(value, Mapping):
        mistakes.add(where, f"expected a table of texts, found {type(value).__name__}")
        return {}
    for name, text in value.items():
        if not isinstance(text, str):
            mistakes.add(f"{where}.{name}", f"expected a text, found {text!r}")
    return {name: str(text) for name, text in value.items()}


def chosen(
    settings: ClusterSettings, environment: Mapping[str, str], option: str | None
) -> ClusterSettings:
    """Return the settings with the address of `--remote-executor`, else of the environment.

    An empty one is no cluster. The files belong to the matrix's address.

    Raises BuildError for an address that is none.
    """
    where, given = ADDRESS, environment.get(ADDRESS)
    if option is not None:
        where, given = "--remote-executor", option
    if given is None or given.strip() == settings.address:
        return settings
    address = given.strip() or None
    if address is not None:
        try:
            check_executor(address)
        except CacheError as error:
            raise BuildError(f"{where}: {error}", error.hint) from None
    return replace(settings, address=address, authority=None, certificate=None, key=None)


class Cluster:
    """The cluster of a run, connected to when it is first needed; its failures are errors."""

    def __init__(self, address: str, connect: Callable[[], Executor]) -> None:
        self.address = address
        self._connect = connect
        self._executor: Executor | None = None
        self._checked = False
        self._lock = threading.Lock()

    @property
    def executor(self) -> Executor:
        """The connection.

        Raises CacheError if the credentials cannot be used.
        """
        with self._lock:
            if self._executor is None:
                self._executor = self._connect()
            return self._executor

    def check(self) -> None:
        """Make sure that the cluster can be reached, once.

        Raises CacheError if it cannot be, or runs no actions.
        """
        if not self._checked:
            self.executor.check()
            self._checked = True

    def cancel(self) -> None:
        """End what runs there for this build."""
        if self._executor is not None:
            self._executor.cancel()

    def close(self) -> None:
        """Close idle connections."""
        if self._executor is not None:
            self._executor.close()


def cluster_of(cluster: ClusterSettings, environment: Mapping[str, str]) -> Cluster | None:
    """Return the cluster of the settings, if they have one; connects to nothing."""
    address = cluster.address
    if address is None:
        return None
    files = RemoteCache(address, True, False, cluster.authority, cluster.certificate, cluster.key)
    return Cluster(
        address,
        lambda: connect_executor(
            address, credentials(files, environment, TOKEN), compression=cluster.compression
        ),
    )
