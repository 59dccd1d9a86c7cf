"""Every way in which a newcomer can fail ends in the one message that docs/errors.md shows.

Each heading of the page is a situation; it is brought about here, and what Olmill says of it is
what stands below the heading. With OLMILL_UPDATE_GOLDEN=1 the messages are written into the page.
"""

from __future__ import annotations

import base64
import errno
import importlib.util
import itertools
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from doit import doit_cmd, loader
from doit.doit_cmd import DoitMain
from huggingface_hub import close_session, constants

from cache.faults import failing_disk
from olmo.toolchains import toolchain
from olmo.verification import memory
from tests.cache.servers import free_port
from tests.cache.signers import SEED
from tests.first_build import FirstBuild
from tests.tasks.fake_hub import REPO, REVISION, Hub, serve

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "errors.md"
PUB_A = ROOT / "tests" / "golden" / "pub-a"
SECTION = re.compile(r"^### (.*)\n(?:(?!#|```).*\n)*```text\n((?:(?!```).*\n)*)```$", re.MULTILINE)

LOCAL = '[models.m]\nsource = "local"\npath = "checkpoint"\nconv_template = "LM"\n'
HUB = f'[models.m]\nsource = "hf"\nrepo = "{REPO}"\nrevision = "{REVISION}"\nconv_template = "LM"\n'
ROW = (
    '\n[[release]]\nmodels = ["m"]\nquantizations = ["q0f32"]\nwindows = [256]\n'
    'targets = ["linux-x86_64-cpu"]\n'
)
WEIGHTS, CONFIG = "checkpoint/model.safetensors", "checkpoint/config.json"


@dataclass
class Newcomer:
    """Somebody with a project of their own, and with a store that has the kernels."""

    root: Path
    store: Path
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]
    hub: Hub | None = None
    wheels: list[str] = field(default_factory=list)

    def write(self, model: str = LOCAL, row: str = ROW) -> Newcomer:
        (self.root / "matrix.toml").write_text(model + row)
        return self

    def edit(self, name: str, change: Callable[[bytes], bytes]) -> Newcomer:
        path = self.root / name
        path.write_bytes(change(path.read_bytes()))
        return self

    def config(self, **changes: object) -> Newcomer:
        return self.edit(CONFIG, lambda text: json.dumps(json.loads(text) | changes).encode())

    def without(self, pattern: str) -> Newcomer:
        for path in self.root.glob(pattern):
            path.unlink()
        return self

    def doit(self, *arguments: str, start: str = ".") -> tuple[int, str]:
        """Run the real doit in this process; its exit code, and what it says."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.root / start)
            patch.setenv("TERM", "dumb")
            if "OLMILL_CACHE_DIR" not in os.environ:
                patch.setenv("OLMILL_CACHE_DIR", str(self.store))
            patch.setattr(sys, "path", list(sys.path))
            patch.setattr(doit_cmd, "_CMDLINE_VARS", None)
            patch.setattr(loader, "initial_workdir", None)
            sys.modules.pop("dodo", None)
            patch.setattr(DoitMain, "BIN_NAME", "doit")
            self.capture.readouterr()
            code = DoitMain().run(list(arguments))
            sys.modules.pop("dodo", None)
            return code or 0, self.capture.readouterr().err

    def run(self, *command: str, limit: int | None = None) -> tuple[int, str]:
        """Run a program."""

        def limited() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        done = subprocess.run(
            command,
            cwd=self.root,
            env={**os.environ, "OLMILL_CACHE_DIR": str(self.store), "TERM": "dumb"},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=limited,
            start_new_session=True,  # what ends a run ends all that is of it
        )
        return done.returncode, done.stderr

    def bootstrap(self, prelude: str, *arguments: str) -> tuple[int, str]:
        """Run bootstrap.py after some Python that makes this machine another."""
        script = f"import sys, runpy\n{prelude}\nsys.argv = ['bootstrap.py', *{arguments!r}]\n"
        script += "runpy.run_path('bootstrap.py', run_name='__main__')"
        return self.run(sys.executable, "-c", script)

    def environment(self, version: str) -> Newcomer:
        """Let there be an environment of a Python that says this of itself."""
        python = self.root / ".venv/bin/python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\necho {version}\n")
        python.chmod(0o755)
        (self.root / ".venv/pyvenv.cfg").touch()
        return self

    def pip(self, said: str) -> tuple[int, str]:
        """What bootstrap.py makes of a failed pip, which wrote `said`."""
        spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with pytest.raises(SystemExit) as ended:
            module.explain((".venv/bin/python", "-m", "pip", "install"), 1, said)
        assert isinstance(ended.value.code, int)
        return ended.value.code, self.capture.readouterr().err

    def serving(self, **misbehaviour: object) -> Newcomer:
        """Let the Hub be a server on this machine."""
        assert self.hub is not None
        for name, value in misbehaviour.items():
            setattr(self.hub, name, value)
        return self.at(self.hub.endpoint)

    def at(self, endpoint: str) -> Newcomer:
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        self.patch.setattr(constants, "ENDPOINT", endpoint)
        self.patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        return self


def _index(n: Newcomer) -> tuple[int, str]:
    (n.root / "checkpoint/model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    )
    return n.without(WEIGHTS).write().doit("convert")


INTERRUPT = """
import signal, sys
from doit.doit_cmd import DoitMain
from tasks.actions import inspect
inspect.run = lambda *_: signal.raise_signal(signal.SIGINT)
sys.exit(DoitMain().run(["download"]))
"""


def _interrupted(n: Newcomer) -> tuple[int, str]:
    n.store = n.root / "store"
    return n.write().run(sys.executable, "-c", INTERRUPT)


def _variable(n: Newcomer, name: str, value: str) -> Newcomer:
    n.patch.setenv(name, value)
    return n


def _no_memory(n: Newcomer) -> tuple[int, str]:
    n.patch.setattr(memory, "available", lambda: 200 << 20)
    return n.write().doit("verify")


def _no_nvcc(n: Newcomer) -> tuple[int, str]:
    toolchain.nvcc.cache_clear()
    n.patch.setattr(shutil, "which", lambda *_, **__: None)
    n.patch.setattr(importlib.util, "find_spec", lambda *_: None)
    return n.write(row=ROW.replace("linux-x86_64-cpu", "cuda")).doit()


def _no_state(n: Newcomer) -> tuple[int, str]:
    (n.root / "build").write_text("in the way")
    return n.write().doit()


def _full_cache(n: Newcomer) -> tuple[int, str]:
    with failing_disk(0, error=errno.ENOSPC, calls=("link",)):
        n.store = n.root / "store"
        return n.write().doit("download")


# By the headings of the page, in its order.
SITUATIONS: dict[str, Callable[[Newcomer], tuple[int, str]]] = {
    "Python is too old": lambda n: n.bootstrap("sys.version_info = (3, 9, 2, 'final', 0)"),
    "Python has no venv module": lambda n: n.bootstrap("sys.modules['ensurepip'] = None"),
    "An extra is misspelt": lambda n: n.bootstrap("", "tset"),
    "The package index cannot be reached": lambda n: n.pip(
        "WARNING: Retrying (Retry(total=4, connect=None, read=None)) after connection broken by "
        "'NewConnectionError('Failed to establish a new connection: [Errno 111] Connection "
        "refused')': /simple/ziglang/\n"
        "ERROR: No matching distribution found for ziglang==0.15.2\n"
    ),
    "There is no wheel for this platform": lambda n: n.pip(
        "ERROR: Cannot install olmill==0.1.0 because these package versions have conflicting "
        "dependencies.\n"
        "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/\n"
        "2026-01-01T00:00:00,000     The user requested (constraint) ziglang==0.15.2\n"
    ),
    "The environment is of another Python": lambda n: n.environment("3 10 12").bootstrap(""),
    "The disk is full while installing": lambda n: n.pip(
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
    ),
    "doit is started in another directory": lambda n: n.write().doit(
        "-f", "../dodo.py", start="checkpoint"
    ),
    "A command or a task is misspelt": lambda n: n.write().doit("compil"),
    "A task of a command is misspelt": lambda n: n.write().doit("why", "convert:m:q0f23"),
    "An option is misspelt": lambda n: n.write().doit("plan", "--jsn"),
    "An option stands before a command": lambda n: n.write().doit("-n", "2", "status"),
    "An option's value is no number": lambda n: n.write().doit("-n", "many"),
    "A variable is misspelt": lambda n: n.write().doit("matrx=other.toml"),
    "A prompt has an equals sign in it": lambda n: n.write().doit("chat", "m", "--prompt", "1+1=2"),
    "The matrix is not there": lambda n: n.doit("matrix=other.toml"),
    "The matrix is not TOML": lambda n: n.write("[models\n").doit(),
    "The matrix is empty": lambda n: n.write("", "").doit(),
    "A table is misspelt": lambda n: n.write(LOCAL.replace("models", "modles")).doit(),
    "A key is misspelt": lambda n: n.write(LOCAL.replace("path", "paht")).doit(),
    "A value has the wrong type": lambda n: n.write(row=ROW.replace("[256]", "256")).doit(),
    "A number is in quotes": lambda n: n.write(row=ROW.replace("256", '"256"')).doit(),
    "A model is misspelt": lambda n: n.write(row=ROW.replace('"m"', '"n"')).doit(),
    "A quantization is misspelt": lambda n: n.write(row=ROW.replace("q0f32", "q4f16_l")).doit(),
    "A quantization cannot be built": lambda n: n.write(
        row=ROW.replace("q0f32", "q4f16_ft")
    ).doit(),
    "A target is misspelt": lambda n: n.write(row=ROW.replace("x86_64", "x64")).doit(),
    "A target cannot be built": lambda n: n.write(
        row=ROW.replace("linux-x86_64-cpu", "vulkan")
    ).doit(),
    "A directory is not there": lambda n: n.write(LOCAL.replace("checkpoint", "models/m")).doit(),
    "A branch in place of a commit": lambda n: n.write(HUB.replace(REVISION, "main")).doit(),
    "An address in place of a repository": lambda n: n.write(
        HUB.replace(REPO, f"https://huggingface.co/{REPO}")
    ).doit(),
    "A template is misspelt": lambda n: n.write(LOCAL.replace("LM", "olmoo")).doit(),
    "Two windows, one of them too small": lambda n: n.write(
        row=ROW.replace("256", "256, 4")
    ).doit(),
    "The model is of another family": lambda n: n.config(model_type="llama").write().doit(),
    "The model is an OLMo 2": lambda n: n.config(model_type="olmo2").write().doit(),
    "The model is an OLMoE": lambda n: n.config(model_type="olmoe").write().doit(),
    "The model is in OLMo's own first form": lambda n: (
        n.config(model_type="hf_olmo").write().doit()
    ),
    "There is no config.json": lambda n: n.without(CONFIG).write().doit(),
    "There are no weights": lambda n: n.without(WEIGHTS).write().doit("convert"),
    "A weight file is cut off": lambda n: (
        n.edit(WEIGHTS, lambda data: data[:-100]).write().doit("convert")
    ),
    "config.json and the weights disagree": lambda n: (
        n.config(num_hidden_layers=9).write().doit("convert")
    ),
    "An index names a file that is not there": _index,
    "There is no tokenizer": lambda n: (
        n.without("checkpoint/tokenizer*").write().doit("gen_config")
    ),
    "A number of shards does not divide the model": lambda n: n.write(
        row=ROW + "tensor_parallel_shards = 7\n"
    ).doit("gen_config"),
    "The Hub cannot be reached": lambda n: (
        n.at(f"http://127.0.0.1:{free_port()}").write(HUB).doit("download")
    ),
    "The Hub is switched off": lambda n: _offline(n).write(HUB).doit("download"),
    "The repository is gated": lambda n: n.serving(gated=True).write(HUB).doit("download"),
    "The repository is private, or not there": lambda n: (
        n.serving(credential="secret").write(HUB).doit("download")
    ),
    "The commit is not there": lambda n: (
        n.serving().write(HUB.replace(REVISION, "f" * 40)).doit("download")
    ),
    "The cache's disk is full": _full_cache,
    "A file may not grow so large": lambda n: n.write().run(
        sys.executable, "-m", "doit", "convert", limit=200_000
    ),
    "The cache is no directory": lambda n: _variable(
        n.write(), "OLMILL_CACHE_DIR", str(n.root / "dodo.py")
    ).doit(),
    "The project may not be written to": _no_state,
    "The model is too large for this machine": _no_memory,
    "A compiler is not installed": _no_nvcc,
    "The remote cache's address is none": lambda n: _variable(
        n.write(), "OLMILL_REMOTE_CACHE", "ftp://cache"
    ).doit(),
    "A trusted key is none": lambda n: n.write(row=f'{ROW}\n[trust]\nci = "ci.pub"\n').doit(),
    "The signing key is none": lambda n: _variable(
        n.write(), "OLMILL_SIGNING_KEY", "ci.pem"
    ).doit(),
    "The signing key is nobody's": lambda n: _variable(
        n.write(), "OLMILL_SIGNING_KEY", base64.b64encode(SEED).decode()
    ).doit(),
    "Nothing is built to chat with": lambda n: n.write().doit("chat", "m"),
    "Nothing is built for the browser": lambda n: n.write().doit("serve"),
    "A build is interrupted": _interrupted,
}


def _offline(n: Newcomer) -> Newcomer:
    n.patch.setattr(constants, "HF_HUB_OFFLINE", True)
    return n


@pytest.fixture(scope="module")
def store(first: FirstBuild, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first.kernels(tmp_path_factory.mktemp("base") / "store")


@pytest.fixture
def newcomer(
    tmp_path: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Newcomer]:
    root = tmp_path / "project"
    shutil.copytree(PUB_A, root / "checkpoint")
    for name in ("bootstrap.py", "dodo.py", "pyproject.toml"):
        shutil.copyfile(ROOT / name, root / name)
    for name in ("OLMILL_CACHE_DIR", "OLMILL_REMOTE_CACHE", "OLMILL_MATRIX", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    files = {path.name: path.read_bytes() for path in PUB_A.iterdir()}
    close_session()
    with serve(files) as hub:
        yield Newcomer(root, store, monkeypatch, capsys, hub)
    close_session()


def sections() -> dict[str, str]:
    return {match[1]: match[2] for match in SECTION.finditer(PAGE.read_text(encoding="utf-8"))}


def message(said: str, newcomer: Newcomer) -> str:
    """The message alone, without what differs from one machine to the next."""
    lines = said.splitlines()
    failed = [number for number, line in enumerate(lines) if line.startswith("FAILED")]
    if failed:
        told = itertools.takewhile(lambda line: line.startswith("  "), lines[failed[0] + 1 :])
        lines = [line.removeprefix("  ") for line in told]
        lines = [line for line in lines if not line.startswith(("log: ", "again: "))]
    else:
        first = re.compile("(error|ERROR|interrupted): ")
        lines = lines[next(n for n, line in enumerate(lines) if first.match(line)) :]
    text = "\n".join(lines) + "\n"
    for known in (newcomer.root, newcomer.store, ROOT):
        text = text.replace(str(known), "…")
    version = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    text = re.sub(rf"{version} on \w+ \w+", "Python 3.11 on Linux riscv64", text)
    text = re.sub(r"tmp/[0-9a-f]{16}/", "tmp/…/", text)  # a scratch directory
    return re.sub(r"http://127\.0\.0\.1:\d+", "https://huggingface.co", text)


def test_the_page_has_every_situation_in_order() -> None:
    headings = re.findall(r"^### (.*)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == list(SITUATIONS)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_it_is_told_in_one_message(situation: str, newcomer: Newcomer) -> None:
    code, said = SITUATIONS[situation](newcomer)
    assert code != 0
    assert "Traceback" not in said
    assert "defect of Olmill" not in said
    found = message(said, newcomer)
    if os.environ.get("OLMILL_UPDATE_GOLDEN") == "1":
        text = PAGE.read_text(encoding="utf-8")
        head, heading, rest = text.partition(f"### {situation}\n")
        block = re.compile(r"```text\n.*?```", re.DOTALL)
        rest = block.sub(lambda _: f"```text\n{found}```", rest, count=1)
        PAGE.write_text(head + heading + rest, encoding="utf-8")
        pytest.skip("docs/errors.md was written")
    assert found == sections()[situation]
    assert "hint: " in found or "run doit again" in found
