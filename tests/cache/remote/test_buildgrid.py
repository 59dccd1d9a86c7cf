"""BuildGrid over PostgreSQL, where the machine has both: another server of the same protocol.

`pip install BuildGrid[database]` into an environment of its own, with its `bgd` on the PATH.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cache.errors import CorruptBlob
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.testing import StoreContract
from tests.cache.servers import Server, free_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.digest import Digest
    from cache.store import Store

BGD = shutil.which("bgd")
POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)

CONFIG = """
server: [!channel {{address: "127.0.0.1:{port}", insecure-mode: true}}]
authorization: {{method: none}}
monitoring: {{enabled: false}}
instances:
  - name: ""
    connections: [!sql-connection &sql {{connection-string: "{database}"}}]
    storages: [!disk-storage &cas {{path: "{files}"}}]
    caches:
      - !lru-action-cache &ac
        {{storage: *cas, max-cached-refs: 100000, allow-updates: true, cache-failed-actions: false}}
    schedulers:
      - !sql-scheduler &scheduler
        sql: *sql
        storage: *cas
        action-cache: *ac
        assigners: [!priority-age-assigner {{count: 1, interval: 0.2}}]
    services:
      - !action-cache {{cache: *ac}}
      - !cas {{storage: *cas}}
      - !bytestream {{storage: *cas}}
      - !execution {{scheduler: *scheduler}}
"""


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """PostgreSQL; yields the address of a database. It does not run as root."""
    if BGD is None or POSTGRES is None:
        pytest.skip("needs BuildGrid[database] and PostgreSQL")
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    prefix = user if os.geteuid() == 0 else []
    port = free_port()
    with tempfile.TemporaryDirectory() as place:
        if prefix:
            shutil.chown(place, "postgres", "postgres")
        data = f"{place}/data"
        make = [*prefix, str(POSTGRES / "initdb"), "-A", "trust", "-U", "postgres", "-N", data]
        subprocess.run(make, check=True, capture_output=True)
        serve = [*prefix, str(POSTGRES / "postgres"), "-D", data, "-k", place]
        with running([*serve, "-h", "127.0.0.1", "-p", str(port)], port, Path(place, "output")):
            yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place, port = tmp_path_factory.mktemp("buildgrid"), free_port()
    files = place / "files"

    def clear() -> None:
        for path in files.rglob("*"):
            if path.is_file():
                path.unlink()

    with postgres() as database:
        assert BGD is not None
        subprocess.run([BGD, "migrate", "apply", database], check=True, capture_output=True)
        config = place / "server.yml"
        config.write_text(CONFIG.format(port=port, database=database, files=files))
        with running([BGD, "server", "start", str(config)], port, place / "output"):
            yield Server(f"grpc://127.0.0.1:{port}", files, clear)


class TestBuildGrid(StoreContract):
    finds_damage_unread = False

    @pytest.fixture
    def store(self, server: Server) -> Iterator[Store]:
        server.clear()
        self.files = server.files
        with contextlib.closing(connect(server.address, Credentials())) as store:
            yield store

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        del store
        (path,) = self.files.rglob(f"{digest.hash[:2]}/{digest.hash[2:]}")
        path.unlink()
        if data is not None:
            path.write_bytes(data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        del store, key, data
        pytest.skip("the server has results in memory")

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        del store, key, other
        pytest.skip("the server has results in memory")

    def test_a_damaged_blob_is_healed_by_writing_it(self, store: Store) -> None:
        """The server keeps what it has; it is not served all the same."""
        digest = store.write(b"precious")
        self.damage_blob(store, digest, b"Precious")
        store.write(b"precious")
        with pytest.raises(CorruptBlob):
            store.read(digest)
