import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from olmo.configuration.compile_spec import CompileSpec
from olmo.errors import OlmoError
from olmo.modeling.lower import lower, metadata
from tests.olmo.conftest import Library
from tests.olmo.libraries import Built

ROOT = Path(__file__).parents[3]
LOWER = """
import sys, pathlib
from olmo.configuration.compile_spec import CompileSpec
from olmo.modeling.lower import lower
module, metadata = lower(CompileSpec.from_json(pathlib.Path("spec").read_bytes()), "llvm")
pathlib.Path("module").write_bytes(module)
pathlib.Path("metadata").write_bytes(metadata)
"""


@pytest.fixture
def library(built: Library) -> Built:
    return built("pub-b", "q4f16_1")


def with_config(spec: CompileSpec, **fields: Any) -> CompileSpec:
    return dataclasses.replace(spec, config=spec.config.with_overrides(**fields))


def test_another_process_and_directory_give_the_same_bytes(library: Built, tmp_path: Path) -> None:
    (tmp_path / "spec").write_bytes(library.spec.to_json())
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "77",
        "TZ": "Asia/Tokyo",
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run([sys.executable, "-c", LOWER], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "module").read_bytes() == library.module
    assert (tmp_path / "metadata").read_bytes() == library.metadata


def test_a_window_is_in_the_metadata_alone(library: Built) -> None:
    spec = with_config(library.spec, context_window_size=128, max_batch_size=2)
    module, described = lower(spec, "llvm")
    assert module == library.module
    differing = {
        key
        for key, value in json.loads(described).items()
        if value != json.loads(library.metadata)[key]
    }
    assert differing == {"context_window_size", "prefill_chunk_size", "max_batch_size"}


def test_silu_has_two_names(library: Built) -> None:
    assert library.spec.config.hidden_act == "silu"
    module, _ = lower(with_config(library.spec, hidden_act="swish"), "llvm")
    assert module == library.module


def test_the_metadata_is_that_of_the_spec(library: Built) -> None:
    described = json.loads(metadata(library.spec))
    config = library.spec.config
    assert described["quantization"] == "q4f16_1"
    assert described["kv_state_kind"] == "kv_cache"
    assert described["kv_cache"] == {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    for name in ("context_window_size", "prefill_chunk_size", "max_batch_size"):
        assert described[name] == getattr(config, name)


def test_the_module_names_no_path_and_no_machine(library: Built) -> None:
    for word in (b"/", b"x86", b"mcpu", b"ir.Span"):
        assert word not in library.module, word


def test_several_devices_give_the_same_bytes_again(divided: Built) -> None:
    assert lower(divided.spec, "llvm") == (divided.module, divided.metadata)


def test_unknown_kinds(library: Built) -> None:
    with pytest.raises(OlmoError, match="unknown target kind 'llm'") as caught:
        lower(library.spec, "llm")
    assert caught.value.hint == "did you mean 'llvm'?"
