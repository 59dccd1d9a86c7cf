"""Ctrl-C while a server lets the build wait."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tasks.toy import Project, Step
from tests.tasks.toy_directory import ROOT, write

LOCAL = "TieredStore(LocalStore(project.cache))"
BEHIND = """TieredStore(LocalStore(project.cache), lambda: connect({address!r}, Credentials()))"""
IMPORTS = (
    "from cache.remote.connect import connect\nfrom cache.remote.credentials import Credentials\n"
)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [[], ["plan"]])
def test_a_signal_ends_what_waits_for_an_answer(
    tmp_path: Path, arguments: list[str], signum: signal.Signals
) -> None:
    project = Project(tmp_path / "p", tmp_path / "cache", {n: Step(n) for n in "abc"})
    write(project)
    dodo = project.root / "dodo.py"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        text = dodo.read_text()
        assert LOCAL in text
        dodo.write_text(IMPORTS + text.replace(LOCAL, BEHIND.format(address=address)))
        process = subprocess.Popen(
            [sys.executable, "-m", "doit", *arguments],
            cwd=project.root,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1)
            process.send_signal(signum)
            told, errors = process.communicate(timeout=60)  # four attempts of 30 s are made
    assert process.returncode == 128 + signum
    assert (told, errors) == ("", "\ninterrupted\n")
