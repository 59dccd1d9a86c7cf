import json
from pathlib import Path

import pytest

from olmo.checkpoints.model_config import read_model_config
from olmo.errors import OlmoError
from tests.olmo.gguf_files import write_gguf
from tests.olmo.sample_checkpoints import CONFIG, config, tensors, write_config, write_single

VALUES = tensors(config())


def failure(given: Path, source: Path | None = None) -> OlmoError:
    with pytest.raises(OlmoError) as caught:
        read_model_config(given, source)
    return caught.value


def test_a_config_json_or_its_directory(tmp_path: Path) -> None:
    write_config(tmp_path)
    for given in (tmp_path, tmp_path / "config.json"):
        found = read_model_config(given)
        assert found.parse() == config()
        assert found.where == str(tmp_path / "config.json")


def test_a_gguf_file_or_its_directory(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", config(), VALUES)
    for given in (tmp_path, path):
        found = read_model_config(given)
        assert found.parse() == config()
        assert found.where == str(path)


def test_both_must_say_the_same(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "weights" / "m.gguf", config(), VALUES)
    write_config(tmp_path, rope_theta=500000.0)
    assert read_model_config(tmp_path).parse().position_embedding_base == 500000.0
    assert str(failure(tmp_path, path)) == (
        f"{tmp_path / 'config.json'}: position_embedding_base is 500000.0, but 10000.0 in {path}"
    )
    write_config(tmp_path / "weights", clip_qkv=8.0)
    assert "clip_qkv is 8.0, but None in" in str(failure(tmp_path / "weights"))


def test_a_gguf_file_beside_other_weights_has_no_say(tmp_path: Path) -> None:
    write_single(tmp_path, VALUES, rope_theta=500000.0)
    write_gguf(tmp_path / "m.gguf", config(), VALUES)
    assert read_model_config(tmp_path).parse().position_embedding_base == 500000.0


AWQ = {
    "quant_method": "awq",
    "version": "GEMM",
    "bits": 4,
    "group_size": 128,
    "zero_point": True,
    "modules_to_not_convert": None,
}


def test_awq_is_read(tmp_path: Path) -> None:
    write_config(tmp_path, quantization_config=AWQ)
    assert read_model_config(tmp_path).parse() == config()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quant_method": "gptq"}, "quant_method is 'gptq', but Olmill reads 'awq'"),
        ({"version": "gemv"}, "version is 'gemv', but Olmill reads 'gemm'"),
        ({"bits": 8}, "bits is 8, but Olmill reads 4"),
        ({"group_size": 64}, "group_size is 64, but Olmill reads 128"),
        ({"zero_point": False}, "zero_point is False, but Olmill reads True"),
    ],
)
def test_other_quantized_checkpoints_are_refused(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    write_config(tmp_path, quantization_config=AWQ | changes)
    assert str(failure(tmp_path)) == f"{tmp_path / 'config.json'}: quantization_config: {said}"
    write_config(tmp_path, quantization_config="awq")
    assert "expected a table of fields, found str" in str(failure(tmp_path))


def test_nothing_there(tmp_path: Path) -> None:
    assert str(failure(tmp_path)) == f"{tmp_path / 'config.json'}: no such file"
    assert "absent.gguf: no such file" in str(failure(tmp_path / "absent.gguf"))


def test_two_models_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    (tmp_path / "b.gguf").touch()
    assert "a.gguf and b.gguf are there" in str(failure(tmp_path))


def test_a_config_that_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]")
    assert "expected a table of fields, found list" in str(failure(tmp_path))


def test_broken_weights_do_not_hide_the_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "model.safetensors.index.json").touch()
    assert read_model_config(tmp_path).parse() == config()
