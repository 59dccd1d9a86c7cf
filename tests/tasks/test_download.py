"""Downloads from a server that speaks the Hub's API and misbehaves."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import close_session, constants, snapshot_download

from olmo.checkpoints.checkpoint import open_checkpoint
from olmo.configuration.config import OLMoConfig
from olmo.errors import OlmoError
from tasks.actions import download
from tasks.actions.hub import Commit
from tests.tasks.fake_hub import REPO, REVISION, Hub, git_oid, serve, sha256

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
PUB_B = {path.name: path.read_bytes() for path in (GOLDEN / "pub-b").iterdir()}
CHAT = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
FIRST, SECOND = (f"model-{number:05d}-of-00002.safetensors" for number in (1, 2))
INDEX = "model.safetensors.index.json"
PARAMETERS: dict[str, Any] = {
    "repo": REPO,
    "revision": REVISION,
    "files": ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"],
    "weights": [
        ["model.safetensors", INDEX],
        ["pytorch_model.bin", "pytorch_model.bin.index.json"],
    ],
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {name: data for name, data in PUB_B.items() if name != "logits.npz"}
    with serve({**files, "README.md": b"#", "pytorch_model.bin": b"x"}) as served:
        yield served


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits of the client, none of which happen."""
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    return found


@pytest.fixture(autouse=True)
def client(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeps: list[float]
) -> Iterator[None]:
    """Point the client, which reads its environment when it is imported, to the server."""
    assert sleeps == []
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    close_session()
    yield
    close_session()


def run(
    tmp_path: Path, progress: Callable[[int, int], None] | None = None, **changes: Any
) -> dict[str, Path]:
    outputs = Path(tempfile.mkdtemp(prefix="outputs", dir=tmp_path))
    try:
        params = {**PARAMETERS, **changes}
        given = {name: value for name, value in params.items() if value is not None}
        download.run(given, tmp_path, outputs, progress)
    except OlmoError:
        assert not list(outputs.iterdir()), "something is left"
        raise
    return {path.name: path for path in outputs.iterdir()}


def failure(tmp_path: Path, **changes: Any) -> tuple[str, str]:
    with pytest.raises(OlmoError) as caught:
        run(tmp_path, **changes)
    assert "\n" not in str(caught.value)
    assert caught.value.hint is not None
    assert not list((tmp_path / "hub").rglob("*.incomplete")), "something is left"
    return str(caught.value), caught.value.hint


def test_fetches_what_is_needed_and_no_more(hub: Hub, tmp_path: Path) -> None:
    made = run(tmp_path)
    assert set(made) == {*CHAT, FIRST, SECOND, INDEX, "architecture.json"}
    for name, path in made.items():
        if name != "architecture.json":
            assert path.read_bytes() == hub.files[name]
    assert json.loads(made["architecture.json"].read_bytes())["tie_word_embeddings"] is True
    config = OLMoConfig.from_huggingface(json.loads(PUB_B["config.json"]))
    with open_checkpoint(made[INDEX].parent, config) as tensors:
        assert len(tensors) == 15
    assert not hub.asked("GET", "README")
    assert not hub.asked("GET", sha256(b"x"))


def test_what_describes_a_model_comes_without_its_weights(hub: Hub, tmp_path: Path) -> None:
    assert set(run(tmp_path, weights=None)) == {*CHAT, "architecture.json"}
    assert not hub.asked("GET", sha256(hub.files[FIRST]))
    assert set(run(tmp_path, files=None)) == {FIRST, SECOND, INDEX}


def test_progress_tells_the_total_first(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.cuts = [2500]
    told: list[tuple[int, int]] = []
    made = run(tmp_path, lambda done, total: told.append((done, total)))
    files = [path for name, path in made.items() if name != "architecture.json"]
    total = sum(path.stat().st_size for path in files)
    known = len(hub.files[INDEX])  # had been fetched to know the others
    assert told[0] == (known, total)
    assert told[-1] == (total, total)
    assert told == sorted(told)
    assert len(told) > total // 2000
    told.clear()
    run(tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(total, total)]


def test_progress_where_the_server_cannot_resume(hub: Hub, tmp_path: Path) -> None:
    hub.cuts, hub.ranges = [1000], False
    told: list[tuple[int, int]] = []
    run(tmp_path, lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]


def test_a_listing_in_pages(hub: Hub, tmp_path: Path) -> None:
    hub.page = 2
    assert set(run(tmp_path)) >= {FIRST, SECOND, "config.json"}


def test_the_users_cache_is_used_and_linked(hub: Hub, tmp_path: Path) -> None:
    snapshot = Path(snapshot_download(REPO, revision=REVISION))
    fetched = len(hub.asked("GET", "/cdn/"))
    made = run(tmp_path)
    assert len(hub.asked("GET", "/cdn/")) == fetched
    assert made[FIRST].stat().st_ino == (snapshot / FIRST).stat().st_ino
    assert not made[FIRST].is_symlink()


def test_a_file_system_without_links(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("tasks.actions.download.os.link", refuse)
    assert run(tmp_path)[FIRST].read_bytes() == hub.files[FIRST]


def test_bin_files_only_where_there_are_no_safetensors(hub: Hub, tmp_path: Path) -> None:
    for name in (FIRST, SECOND, INDEX):
        del hub.files[name]
    assert set(run(tmp_path)) == {*CHAT, "pytorch_model.bin", "architecture.json"}


def test_a_single_file_comes_before_an_index(hub: Hub, tmp_path: Path) -> None:
    hub.files["model.safetensors"] = b"single"
    assert set(run(tmp_path)) == {*CHAT, "model.safetensors", "architecture.json"}


GGUFS = {path.name: path.read_bytes() for path in (GOLDEN / "pub-a-gguf").iterdir()}


def gguf(tmp_path: Path, name: str = "pub-a-q8_0.gguf") -> dict[str, Path]:
    return run(tmp_path, weights=None, gguf=name)


def test_one_gguf_file_of_several(hub: Hub, tmp_path: Path) -> None:
    hub.files = {**GGUFS, "README.md": b"#"}
    made = gguf(tmp_path)
    assert set(made) == {
        "pub-a-q8_0.gguf", "config.json", "architecture.json", "gguf-tokenizer.json"
    }  # fmt: skip
    assert made["pub-a-q8_0.gguf"].read_bytes() == GGUFS["pub-a-q8_0.gguf"]
    assert json.loads(made["config.json"].read_bytes())["num_hidden_layers"] == 2
    assert len(hub.asked("GET", "/cdn/")) == 1


def test_a_gguf_file_beside_a_config_and_a_tokenizer(hub: Hub, tmp_path: Path) -> None:
    pub_a = GOLDEN / "pub-a"
    beside = {name: (pub_a / name).read_bytes() for name in ("config.json", "tokenizer.json")}
    hub.files = {**GGUFS, **beside}
    made = gguf(tmp_path)
    for name, data in beside.items():
        assert made[name].read_bytes() == data
    hub.files["config.json"] = beside["config.json"].replace(b"10000.0", b"500000.0")
    (tmp_path / "hub").rename(tmp_path / "before")
    with pytest.raises(OlmoError) as caught:
        gguf(tmp_path)
    assert str(caught.value).startswith(f"{REPO} at {REVISION}: config.json: position_embedding")


def test_a_gguf_model_in_several_files(hub: Hub, tmp_path: Path) -> None:
    first, second = (f"m-{number:05d}-of-00002.gguf" for number in (1, 2))
    hub.files = {first: GGUFS["pub-a-q8_0.gguf"], second: GGUFS["pub-a-f16.gguf"], **GGUFS}
    assert {name for name in gguf(tmp_path, second) if name.endswith(".gguf")} == {
        first,
        second,
    }
    del hub.files[first]
    with pytest.raises(OlmoError, match=f"has no {first}") as caught:
        gguf(tmp_path, second)
    assert caught.value.hint == (
        "GGUF files there: m-00002-of-00002.gguf, pub-a-f16.gguf, pub-a-f32.gguf, pub-a-q8_0.gguf"
    )


def test_gguf_files_and_none_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.files = {**GGUFS, "config.json": PUB_B["config.json"]}
    message, hint = failure(tmp_path)
    assert message.endswith("has no model.safetensors or pytorch_model.bin")
    assert hint == 'name one of its GGUF files in the matrix, such as file = "pub-a-f16.gguf"'


def test_tiktoken_files_only_where_there_is_no_other_tokenizer(hub: Hub, tmp_path: Path) -> None:
    ranks = (GOLDEN / "tiktoken" / "model.tiktoken").read_bytes()
    hub.files["qwen.tiktoken"] = ranks
    assert "qwen.tiktoken" not in run(tmp_path)
    del hub.files["tokenizer.json"]
    (tmp_path / "hub").rename(tmp_path / "before")
    assert run(tmp_path)["qwen.tiktoken"].read_bytes() == ranks


def test_tiktoken_files_without_the_network(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del hub.files["tokenizer.json"]
    hub.files["qwen.tiktoken"] = b"IQ== 0"
    run(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert run(tmp_path)["qwen.tiktoken"].read_bytes() == b"IQ== 0"
    with pytest.raises(OlmoError, match=r"the Hub cache does not have \*\.tiktoken"):
        Commit("owner/other", REVISION, None).matching("*.tiktoken")


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ("config.json", "has no config.json"),
        (FIRST, f"{INDEX} names {FIRST}, which is not there"),
        (None, "has no model.safetensors or pytorch_model.bin"),
    ],
)
def test_a_repository_that_is_no_checkpoint(
    hub: Hub, tmp_path: Path, absent: str | None, said: str
) -> None:
    for name in [absent] if absent else [INDEX, "pytorch_model.bin"]:
        del hub.files[name]
    assert said in failure(tmp_path)[0]


def test_an_index_that_leads_outside(hub: Hub, tmp_path: Path) -> None:
    hub.files[INDEX] = json.dumps({"weight_map": {"a": "../../config.json"}}).encode()
    with pytest.raises(OlmoError, match="outside the checkpoint's directory"):
        run(tmp_path)


def test_a_cut_connection_is_resumed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)  # what is lost by a cut, at most
    for name in (FIRST, SECOND, INDEX):
        hub.files.pop(name)
    hub.files["model.safetensors"] = PUB_B[FIRST]
    hub.cuts = [1000, 5000]
    assert run(tmp_path)["model.safetensors"].read_bytes() == PUB_B[FIRST]
    ranges = [headers.get("Range") for headers in hub.asked("GET", "/cdn/")]
    assert ranges == [None, "bytes=1000-", "bytes=6000-"]


def test_a_server_that_cannot_resume(hub: Hub, tmp_path: Path) -> None:
    hub.cuts, hub.ranges = [1000], False
    assert run(tmp_path)[FIRST].read_bytes() == hub.files[FIRST]


def test_a_connection_that_is_always_cut(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [0] * 100
    message, hint = failure(tmp_path)
    assert message.startswith(f"cannot download {REPO} at {REVISION}: ")
    assert "complete files are kept" in hint
    hub.cuts = []
    assert set(run(tmp_path)) >= {FIRST, SECOND}


def test_what_is_complete_is_kept_after_a_failure(hub: Hub, tmp_path: Path) -> None:
    hub.wrong = {SECOND: [bytes(len(hub.files[SECOND]))] * 2}
    failure(tmp_path)
    fetched = len(hub.asked("GET", sha256(hub.files[FIRST])))
    run(tmp_path)
    assert len(hub.asked("GET", sha256(hub.files[FIRST]))) == fetched == 1


def test_wrong_bytes_are_fetched_again(hub: Hub, tmp_path: Path) -> None:
    hub.wrong = {FIRST: [bytes(len(hub.files[FIRST]))], "config.json": [b"x" * 563]}
    made = run(tmp_path)
    assert made[FIRST].read_bytes() == hub.files[FIRST]
    assert made["config.json"].read_bytes() == hub.files["config.json"]


@pytest.mark.parametrize("name", [FIRST, "tokenizer.json"])
def test_bytes_that_stay_wrong(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.wrong = {name: [bytes(len(hub.files[name]))] * 2}
    message, hint = failure(tmp_path)
    assert message == (
        f"{REPO} at {REVISION}: the bytes received for {name} are not the ones the Hub names"
    )
    assert "HF_ENDPOINT" in hint
    digest = sha256(hub.files[name]) if name == FIRST else git_oid(hub.files[name])
    assert not list((tmp_path / "hub").rglob(digest)), "the wrong bytes are left in the cache"
    run(tmp_path)


def test_a_damaged_cache_is_repaired(hub: Hub, tmp_path: Path) -> None:
    snapshot = Path(snapshot_download(REPO, revision=REVISION))
    (snapshot / SECOND).write_bytes(b"damaged")
    assert run(tmp_path)[SECOND].read_bytes() == hub.files[SECOND]


def test_a_busy_hub_is_waited_for(hub: Hub, tmp_path: Path, sleeps: list[float]) -> None:
    hub.busy = 2
    run(tmp_path)
    assert sleeps[:2] == [8.0, 8.0]  # what Retry-After says, and a second


def test_a_hub_that_stays_busy(hub: Hub, tmp_path: Path) -> None:
    hub.busy = 100
    message, hint = failure(tmp_path)
    assert message == f"cannot download {REPO} at {REVISION}: the Hub answered 429"
    assert hint.startswith("the Hub limits requests")


def test_a_hub_that_fails(hub: Hub, tmp_path: Path) -> None:
    hub.failing = 3
    run(tmp_path)
    hub.failing = 100
    assert failure(tmp_path)[0].endswith("the Hub answered 500")


def test_a_private_repository(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.credential = "hf_right"
    message, hint = failure(tmp_path)
    assert message == f"{REPO} at {REVISION} is not there, or private"
    assert "HF_TOKEN" in hint
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert FIRST in run(tmp_path)
    assert not any("authorization" in map(str.lower, h) for h in hub.asked("GET", "/cdn/"))


def test_a_gated_repository(hub: Hub, tmp_path: Path) -> None:
    hub.gated = True
    message, hint = failure(tmp_path)
    assert message == f"{REPO} at {REVISION} is gated, and this account has no access"
    assert hint.startswith(f"ask for access on {hub.endpoint}/{REPO}, then set HF_TOKEN")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"repo": "owner/other"}, f"owner/other at {REVISION} is not there, or private"),
        ({"revision": "f" * 40}, f"{REPO} at {'f' * 40} is not there: no such commit"),
    ],
)
def test_what_is_not_there(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    assert failure(tmp_path, **changes)[0] == said


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    message, hint = failure(tmp_path)
    assert message == (
        f"{REPO} at {REVISION}: the Hub cannot be reached, and the Hub cache does not have "
        "config.json"
    )
    assert "HF_ENDPOINT" in hint


def test_offline_with_what_an_earlier_download_left(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online = run(tmp_path)
    asked = len(hub.log)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = run(tmp_path)
    assert len(hub.log) == asked
    assert {n: p.read_bytes() for n, p in offline.items()} == {
        n: p.read_bytes() for n, p in online.items()
    }
    path = offline[FIRST]
    path.write_bytes(b"damaged")  # a link of the blob in the cache
    message, hint = failure(tmp_path)
    assert message == f"{REPO} at {REVISION}: {FIRST} in the Hub cache is damaged"
    assert hint.startswith("remove ")


def test_offline_with_a_cache_that_lacks_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot_download(REPO, revision=REVISION, allow_patterns=["*.json"])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message, hint = failure(tmp_path)
    assert message == (
        f"{REPO} at {REVISION}: HF_HUB_OFFLINE is set, and the Hub cache does not have {FIRST}"
    )
    assert "unset HF_HUB_OFFLINE once" in hint


def test_the_environment_is_honoured(hub: Hub, tmp_path: Path) -> None:
    """As a worker runs it: the client reads HF_* when it is imported."""
    hub.credential = "hf_right"
    (tmp_path / "params.json").write_text(json.dumps(PARAMETERS))
    (tmp_path / "tools.json").write_text(json.dumps({"packages": {}, "programs": {}}))
    (tmp_path / "inputs").mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_right",
    }
    for offline in ("0", "1"):
        subprocess.run(
            [sys.executable, "-m", "tasks.actions", "tasks.actions.download"],
            cwd=tmp_path,
            env={**environment, "HF_HUB_OFFLINE": offline},
            check=True,
        )
        asked = len(hub.log)
        for path in (tmp_path / "outputs").iterdir():
            path.unlink()
    assert asked == len(hub.log)
    assert list((tmp_path / "home" / "hub").glob("models--owner--name/blobs/*"))
