import pytest

from olmo.errors import OlmoError
from olmo.quantizations import QUANTIZATIONS, quantization

SUPPORTED = [
    "q0f16",
    "q0bf16",
    "q0f32",
    "q3f16_0",
    "q3f16_1",
    "q4f16_0",
    "q4f16_1",
    "q4f16_2",
    "q4bf16_0",
    "q4bf16_1",
    "q4f32_1",
    "q4f16_awq",
    "q4f16_autoawq",
    "e5m2_e5m2_f16",
    "e4m3_e4m3_f16",
    "e4m3_e4m3_f16_max_calibrate",
]


def test_all_of_mlcs_names_are_known() -> None:
    names = (
        "q0f16 q0bf16 q0f32 q3f16_0 q3f16_1 q4f16_0 q4f16_1 q4f16_2 q4bf16_0 q4bf16_1 q4f32_1 "
        "q4f16_awq q4f16_autoawq e5m2_e5m2_f16 e4m3_e4m3_f16 e4m3_e4m3_f16_max_calibrate q4f16_ft"
    )
    assert [name for name in QUANTIZATIONS if name in names.split()] == names.split()


@pytest.mark.parametrize("name", SUPPORTED)
def test_supported(name: str) -> None:
    assert quantization(name).name == name
    assert quantization(name).supported


@pytest.mark.parametrize("name", [name for name in QUANTIZATIONS if name not in SUPPORTED])
def test_what_cannot_be_built_says_why(name: str) -> None:
    with pytest.raises(OlmoError, match=f"quantization '{name}' cannot be built: ") as caught:
        quantization(name)
    assert caught.value.hint == f"choose {', '.join(SUPPORTED)}"


def test_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(OlmoError, match="unknown quantization 'q4f16-1'") as caught:
        quantization("q4f16-1")
    assert caught.value.hint == "did you mean 'q4f16_1'?"


def test_group_parameters() -> None:
    three, four = QUANTIZATIONS["q3f16_0"], QUANTIZATIONS["q4bf16_1"]
    assert (three.bits, three.group_size, three.max_int, three.per_word) == (3, 40, 3, 10)
    assert (four.bits, four.group_size, four.max_int, four.per_word) == (4, 32, 7, 8)
    assert (three.layout, four.layout) == ("KN", "NK")
    assert not QUANTIZATIONS["q4f16_2"].quantize_embedding
    assert not QUANTIZATIONS["q4f16_2"].quantize_final_fc
