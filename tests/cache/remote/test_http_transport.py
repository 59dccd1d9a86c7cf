"""Bazel's HTTP cache, as a real nginx serves it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cache.errors import RemoteUnavailable
from cache.remote.connect import connect
from cache.remote.credentials import Credentials
from cache.remote.http_transport import HttpTransport
from cache.remote.retrying import Backoff, RetryingTransport
from cache.remote.store import RemoteStore
from cache.testing import StoreContract
from tests.cache.servers import Server, nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cache.digest import Digest
    from cache.store import Store


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with nginx(tmp_path_factory.mktemp("nginx")) as server:
        yield server


class TestNginx(StoreContract):
    finds_damage_unread = False

    @pytest.fixture
    def store(self, server: Server) -> Iterator[Store]:
        server.clear()
        self.files = server.files
        with contextlib.closing(connect(server.address, Credentials())) as store:
            yield store

    def damage_blob(self, store: Store, digest: Digest, data: bytes | None) -> None:
        del store
        _overwrite(self.files / "cas" / digest.hash, data)

    def damage_result(self, store: Store, key: Digest, data: bytes | None) -> None:
        del store
        _overwrite(self.files / "ac" / key.hash, data)

    def move_result(self, store: Store, key: Digest, other: Digest) -> None:
        del store
        shutil.copy(self.files / "ac" / key.hash, self.files / "ac" / other.hash)


def _overwrite(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, its own authority, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    place = tmp_path_factory.mktemp("certificate")
    made, key = place / "certificate.pem", place / "key.pem"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [openssl, "req", *kind, *name, "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


def test_tls_with_certificates_on_both_sides(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    made, key = certificate
    more = (
        f"ssl_certificate {made}; ssl_certificate_key {key}; "
        f"ssl_client_certificate {made}; ssl_verify_client on;"
    )
    with nginx(tmp_path, tls="ssl", more=more) as server:

        def store(credentials: Credentials) -> RemoteStore:
            transport = HttpTransport(server.address, credentials)
            return RemoteStore(RetryingTransport(transport, Backoff(sleep=lambda _: None)))

        with contextlib.closing(store(Credentials(None, None, made, made, key))) as known:
            data = bytes(range(256)) * 10_000
            assert known.read(known.write(data)) == data
        for credentials, message in (
            (Credentials(None, None, made), "400 Bad Request"),
            (Credentials(), "self-signed certificate"),
        ):
            with (
                contextlib.closing(store(credentials)) as refused,
                pytest.raises(RemoteUnavailable, match=message),
            ):
                refused.write(b"x")
