import pytest

from olmo.errors import OlmoError
from olmo.optimization import Optimization, optimization


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("O0", Optimization(0, cudagraph=False)),
        ("O3", Optimization(3, cudagraph=True)),
        ("O2;cudagraph=0", Optimization(2, cudagraph=False)),
        ("O0; cudagraph=1", Optimization(0, cudagraph=True)),
        ("cudagraph=1", Optimization(2, cudagraph=True)),
        ("cudagraph=0", Optimization(2, cudagraph=False)),
    ],
)
def test_levels_and_flags(text: str, expected: Optimization) -> None:
    assert optimization(text, "cuda") == expected


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("O9", "cuda", "unknown optimisation level 'O9'"),
        ("", "cuda", "unknown optimisation level ''"),
        ("O2;graph=1", "cuda", "unknown optimisation flag 'graph'"),
        ("O2;O3", "cuda", "unknown optimisation flag 'O3'"),
        ("cudagraph=yes", "cuda", "must be 0 or 1, not 'yes'"),
        ("cudagraph=1", "metal", "for CUDA targets only"),
        ("cublas_gemm=1", "cuda", "flag 'cublas_gemm' is not supported"),
        ("O3;faster_transformer=0", "cuda", "flag 'faster_transformer' is not supported"),
    ],
)
def test_mistakes(text: str, kind: str, message: str) -> None:
    with pytest.raises(OlmoError, match=message):
        optimization(text, kind)
