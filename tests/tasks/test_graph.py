"""Opening a session: what the environment says, and what of it nobody else is told."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cache import signing
from cache.remote.credentials import Credentials
from cache.remote.http_transport import HttpTransport
from tasks.graph import open_session, use_cluster
from tests.cache.signers import SEED

MATRIX = """
[models.olmo-tiny]
source = "embedded"

[[release]]
models = ["olmo-tiny"]
quantizations = ["q0f32"]
windows = [256]
targets = ["linux-x86_64-cpu"]
"""
SECRETS = {
    "OLMILL_SIGNING_KEY": base64.b64encode(SEED).decode(),
    "OLMILL_REMOTE_CACHE_TOKEN": "hunter2",
    "OLMILL_REMOTE_EXECUTOR_TOKEN": "hunter3",
}


def test_a_key_that_everybody_may_read_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "matrix.toml").write_text(MATRIX)
    key = tmp_path / "ci.pem"
    key.write_bytes(signing.make_private())
    environment = {
        "OLMILL_BUILDER": "ci",
        "OLMILL_CACHE_DIR": str(tmp_path / "cache"),
        "OLMILL_SIGNING_KEY": str(key),
    }
    told = f"OLMILL_SIGNING_KEY: everybody on this machine may read {key}: chmod 600 {key}"
    for mode, warnings in ((0o644, [told]), (0o640, []), (0o600, [])):
        key.chmod(mode)
        shared = open_session(tmp_path, environment).workspace.shared
        assert shared.warnings() == warnings
    environment["OLMILL_SIGNING_KEY"] = key.read_text()  # and not the path of it
    assert open_session(tmp_path, environment).workspace.shared.warnings() == []


def test_programs_that_actions_run_inherit_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "matrix.toml").write_text(MATRIX)
    others = {
        "OLMILL_BUILDER": "ci",
        "OLMILL_CACHE_DIR": str(tmp_path / "cache"),
        "OLMILL_REMOTE_CACHE": "http://localhost",
    }
    for name, value in {**SECRETS, **others}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    session = open_session(tmp_path)
    assert os.environ["GRPC_VERBOSITY"] == "NONE"
    shared = session.workspace.shared
    script = "import os; print(*os.environ.values())"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    assert not any(secret.encode() in told for secret in SECRETS.values())
    assert not SECRETS.keys() & os.environ.keys()
    assert not any(secret in repr(session) for secret in SECRETS.values())
    assert shared.trust.signer is not None
    assert shared.trust.signer.builder == "ci"
    assert shared.remote is not None
    transport = shared.remote._transport.inner  # type: ignore[attr-defined]  # behind retries
    assert isinstance(transport, HttpTransport)
    expected = Credentials(SECRETS["OLMILL_REMOTE_CACHE_TOKEN"]).authorization("localhost")
    assert transport._authorization == expected
    use_cluster(session, "grpc://localhost")
    assert session.workspace.cluster is not None
    connection = session.workspace.cluster.executor._connection
    assert connection.metadata == (("authorization", "Bearer hunter3"),)
