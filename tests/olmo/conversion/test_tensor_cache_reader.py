import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo.conversion.tensor_cache import Writer
from olmo.conversion.tensor_cache_reader import read_tensor_cache
from olmo.errors import OlmoError
from olmo.weights import Parameter


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    with Writer(tmp_path, [Parameter("a", (2, 3), "float16")]) as writer:
        writer.append("a", np.arange(6, dtype=np.float16))
        writer.finish(6)
    return tmp_path


def change(cache: Path, **record: Any) -> None:
    path = cache / "tensor-cache.json"
    obj = json.loads(path.read_text())
    shard = obj["records"][0]
    for key, value in record.items():
        target = shard if key in shard else shard["records"][0]
        if value is ...:
            del target[key]
        else:
            target[key.removeprefix("record_")] = value
    path.write_text(json.dumps(obj))


def message(cache: Path) -> str:
    with pytest.raises(OlmoError) as caught:
        read_tensor_cache(cache)
    return str(caught.value)


def test_no_manifest(tmp_path: Path) -> None:
    assert "no tensor-cache.json" in message(tmp_path)
    (tmp_path / "ndarray-cache.json").touch()
    with pytest.raises(OlmoError) as caught:
        read_tensor_cache(tmp_path)
    assert caught.value.hint == "it has the older ndarray-cache.json"


@pytest.mark.parametrize("path", ["../params_shard_0.bin", "/etc/passwd", "..", "a\\b", ""])
def test_a_shard_outside_the_directory(cache: Path, path: str) -> None:
    change(cache, dataPath=path)
    assert "lies outside the directory" in message(cache)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"dataPath": "params_shard_9.bin"}, "names params_shard_9.bin, which is not there"),
        ({"md5sum": ...}, "malformed: KeyError('md5sum')"),
        ({"shape": 3}, "malformed: TypeError"),
        ({"dtype": "float12"}, "unknown dtype 'float12'"),
        ({"format": "zip"}, "unknown shard format 'zip'"),
        ({"record_format": "zip"}, "unknown dtype 'float16' or format 'zip'"),
        ({"byteOffset": -1}, "bad shape, size or offset"),
        ({"byteOffset": 2}, "does not fit its shard"),
        ({"shape": [2, 4]}, "does not fit its shard"),
    ],
)
def test_malformed_manifest(cache: Path, record: dict[str, Any], expected: str) -> None:
    change(cache, **record)
    assert expected in message(cache)


def test_duplicate_tensor(cache: Path) -> None:
    obj = json.loads((cache / "tensor-cache.json").read_text())
    obj["records"][0]["records"] *= 2
    (cache / "tensor-cache.json").write_text(json.dumps(obj))
    assert "tensor 'a' occurs twice" in message(cache)


def test_truncated_shard(cache: Path) -> None:
    (cache / "params_shard_0.bin").write_bytes(bytes(11))
    assert "has 11 bytes, the manifest says 12" in message(cache)


def test_a_shard_cut_after_opening(cache: Path) -> None:
    opened = read_tensor_cache(cache)
    (cache / "params_shard_0.bin").write_bytes(bytes(11))
    with pytest.raises(OlmoError, match="ends within tensor 'a'"):
        opened.read("a")


def test_changed_shard(cache: Path) -> None:
    (cache / "params_shard_0.bin").write_bytes(bytes(12))
    with pytest.raises(OlmoError, match=r"md5 is .*, the manifest says"):
        read_tensor_cache(cache).verify()


def test_unknown_tensor(cache: Path) -> None:
    with pytest.raises(OlmoError, match="no tensor 'b'"):
        read_tensor_cache(cache).read("b")
