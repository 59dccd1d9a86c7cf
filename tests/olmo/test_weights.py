import json
from pathlib import Path

import pytest

from olmo.configuration.config import OLMoConfig
from olmo.quantizations import QUANTIZATIONS
from olmo.weights import is_ignored, parameters, weights

GOLDEN = Path(__file__).parents[1] / "golden"
CONVERTED = json.loads((GOLDEN / "converted.json").read_text())


def config(name: str) -> OLMoConfig:
    return OLMoConfig.from_huggingface(json.loads((GOLDEN / name / "config.json").read_text()))


@pytest.mark.parametrize("name", ["pub-a", "pub-b"])
@pytest.mark.parametrize("quantization", CONVERTED["pub-a"])
def test_parameters_are_those_of_mlc(name: str, quantization: str) -> None:
    golden = CONVERTED[name][quantization]["tensors"]
    ours = parameters(config(name), QUANTIZATIONS[quantization])
    assert {p.name: [p.dtype, list(p.shape)] for p in ours} == {
        tensor: entry[:2] for tensor, entry in golden.items()
    }
    assert len({p.name for p in ours}) == len(ours)


def test_model_order() -> None:
    names = [w.name.removeprefix("model.") for w in weights(config("pub-a"))]
    assert names == [
        "embed_tokens",
        *(
            f"layers.{i}.{part}"
            for i in range(2)
            for part in (
                "self_attn.qkv_proj",
                "self_attn.o_proj",
                "mlp.gate_up_proj",
                "mlp.down_proj",
            )
        ),
        "lm_head",
    ]


def test_tied_model_has_no_head() -> None:
    assert all(w.role != "final_fc" for w in weights(config("pub-b")))


def test_sources_concatenate_to_the_weight() -> None:
    for weight in weights(config("pub-b")):
        assert weight.shape[0] == sum(source.shape[0] for source in weight.sources)
        assert {source.shape[1] for source in weight.sources} == {weight.shape[1]}
    qkv = weights(config("pub-b"))[1]
    assert [source.name.rsplit(".", 2)[1] for source in qkv.sources] == [
        "q_proj",
        "k_proj",
        "v_proj",
    ]


def test_inverse_frequencies_are_ignored() -> None:
    assert is_ignored("model.layers.3.self_attn.rotary_emb.inv_freq")
    assert not is_ignored("model.layers.3.self_attn.q_proj.weight")
