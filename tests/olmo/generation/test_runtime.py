import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from olmo.conversion.convert import convert
from olmo.errors import OlmoError
from olmo.generation import runtime
from olmo.generation.runtime import Engine
from olmo.quantizations import quantization
from tests.olmo.conftest import Library
from tests.olmo.libraries import (
    GOLDEN,
    PROMPT,
    Built,
    build,
    every_way,
    golden_logits,
    golden_tokens,
)
from tests.olmo.sample_checkpoints import config, tensors, write_single
from tests.olmo.session import by_hidden_states, verified


@pytest.fixture
def small(built: Library) -> Built:
    return built("pub-a", "q0f16")


@pytest.mark.parametrize(("checkpoint", "tolerance"), [("pub-a", 1e-4), ("pub-b", 1e-3)])
def test_golden_logits_in_every_way(built: Library, checkpoint: str, tolerance: float) -> None:
    library, tokens = built(checkpoint, "q0f32"), golden_tokens(checkpoint)
    ways = {
        **every_way(library.engine(max_sequences=2), tokens),
        "batch_verify": verified(library, tokens),
        "states and get_logits": by_hidden_states(library, tokens),
    }
    for way, found in ways.items():
        assert np.abs(found - golden_logits(checkpoint)).max() < tolerance, way


def test_golden_logits_of_two_shards_in_two_stages(divided: Built) -> None:
    engine = divided.engine(max_sequences=2)
    for way, found in every_way(engine, golden_tokens("pub-b")).items():
        assert np.abs(found - golden_logits("pub-b")).max() < 1e-3, way


def test_divided_weights_are_the_same_weights(tmp_path: Path) -> None:
    changes = {"hidden_size": 64, "intermediate_size": 128}
    values = tensors(config(**changes))
    checkpoint = write_single(tmp_path / "checkpoint", values, **changes)
    library = build(checkpoint, "q4f16_1", tmp_path / "built", tensor_parallel_shards=2)
    found = library.engine().prefill(0, range(20))
    (expected,) = library.reference(range(20))
    assert np.abs(found - expected[-1]).max() < 2e-2 * np.abs(expected).max()
    presharded = tmp_path / "presharded"
    chosen = quantization("q4f16_1")
    convert(checkpoint, library.spec.config, chosen, presharded, shards=2)
    assert np.array_equal(Engine(presharded, library.library).prefill(0, range(20)), found)
    joined = dataclasses.replace(library, model_dir=presharded)
    for name in ("qkv_proj", "o_proj"):
        weight = f"model.layers.1.self_attn.{name}"
        assert np.array_equal(joined.weight(weight), library.weight(weight))


def test_weights_for_another_number_of_shards(
    divided: Built, built: Library, tmp_path: Path
) -> None:
    chosen = quantization("q0f32")
    convert(GOLDEN / "pub-b", divided.spec.config, chosen, tmp_path, shards=2)
    with pytest.raises(OlmoError, match=r"holds the tensor '.*qkv_proj.weight_shard-0', which"):
        Engine(tmp_path, built("pub-b", "q0f32").library)


def test_long_prompts_are_read_in_chunks(small: Built) -> None:
    tokens = golden_tokens("pub-a")[:PROMPT]
    engine = small.engine()
    whole = engine.prefill(0, tokens)
    engine.reset()
    engine.prefill_chunk_size = 8
    assert np.abs(engine.prefill(0, tokens) - whole).max() < 1e-2 * np.abs(whole).max()
    assert engine.length(0) == PROMPT


def test_the_context_window_is_the_limit(small: Built) -> None:
    engine = small.engine()
    with pytest.raises(OlmoError, match="513 tokens exceed the context window of 512"):
        engine.prefill(0, [1] * 513)
    engine.prefill(0, [1] * 511)
    engine.decode(0, 2)
    with pytest.raises(OlmoError, match="513 tokens exceed the context window of 512") as caught:
        engine.decode(0, 3)
    assert caught.value.hint is not None
    assert engine.length(0) == 512
    engine.remove(0)
    assert engine.length(0) == 0
    engine.decode(0, 3)


def test_sequences_are_apart(small: Built) -> None:
    engine = small.engine(max_sequences=2)
    alone = engine.prefill(1, [5, 6, 7])
    engine.reset()
    engine.prefill(0, [9, 8])
    assert np.array_equal(engine.prefill(1, [5, 6, 7]), alone)
    engine.remove(0)
    engine.prefill(2, [3])
    with pytest.raises(OlmoError, match="opened for 2 sequences"):
        engine.prefill(3, [3])


def test_tokens_are_checked(small: Built) -> None:
    engine = small.engine()
    for tokens, message in (([], "no tokens"), ([320], "token 320"), ([1, -1], "token -1")):
        with pytest.raises(OlmoError, match=message):
            engine.prefill(0, tokens)
    engine.prefill(0, [319])


def test_a_batch_larger_than_the_prefill_chunk(small: Built) -> None:
    engine = small.engine(max_sequences=2)
    with pytest.raises(OlmoError, match="600 tokens exceed the prefill chunk of 512"):
        engine.batch_prefill({0: [1] * 300, 1: [2] * 300})


def test_weights_of_another_quantization(built: Library, small: Built) -> None:
    library = built("pub-a", "q0f32").library
    with pytest.raises(OlmoError, match=r"'model.embed_tokens.weight' has dtype float16") as caught:
        Engine(small.model_dir, library)
    assert str(small.model_dir) in str(caught.value)
    assert str(library) in str(caught.value)
    with pytest.raises(OlmoError, match=r"holds the tensor 'model.embed_tokens.weight', which"):
        Engine(small.model_dir, built("pub-b", "q4f16_1").library)


def test_weights_of_another_shape(built: Library) -> None:
    with pytest.raises(OlmoError, match=r"tensor 'lm_head.weight', which .* has no use for"):
        Engine(built("pub-a", "q0f32").model_dir, built("pub-b", "q0f32").library)


def test_weights_without_a_tensor(small: Built, tmp_path: Path) -> None:
    for file in small.model_dir.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((tmp_path / "tensor-cache.json").read_bytes())
    del manifest["records"][-1]["records"][-1]
    (tmp_path / "tensor-cache.json").write_text(json.dumps(manifest))
    with pytest.raises(OlmoError, match=r"lacks the tensor 'lm_head.weight' that .*library.so"):
        Engine(tmp_path, small.library)


def test_libraries_that_are_none(small: Built, tmp_path: Path) -> None:
    with pytest.raises(OlmoError, match="no such library"):
        Engine(small.model_dir, tmp_path / "absent.so")
    text = tmp_path / "text.so"
    text.write_text("not a library")
    with pytest.raises(OlmoError, match=r"text.so: not a model library"):
        Engine(small.model_dir, text)


def test_a_sliding_window_is_refused(small: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    described = json.loads(small.metadata) | {"sliding_window_size": 64}
    functions = {"_metadata": lambda: json.dumps(described)}
    monkeypatch.setattr(runtime, "_open_library", lambda *_: functions)
    with pytest.raises(OlmoError, match=r"library.so: was compiled with sliding_window_size 64"):
        small.engine()
