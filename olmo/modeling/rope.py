"""Rotary embedding in TIR: cosine and sine of the angle of one pair at one position.

TVM has no linear scaling, and its YaRN neither rounds the range of pairs that it blends nor
multiplies by the attention factor, so both are written here, as transformers computes them
(modeling_rope_utils.py). The angles are float32.
"""

# tvm has no type information.
# mypy: disable-error-code="import-untyped"

import math
from collections.abc import Mapping
from typing import Any

from tvm import tirx
from tvm.relax.frontend.nn.llm.position_embedding import switch_rope_freq_func

from olmo.configuration.rope_scaling import BETA_FAST, BETA_SLOW

_Rotation = tuple[tirx.Expr, tirx.Expr, Mapping[tirx.Var, tirx.Expr]]


def rotation(
    scaling: Mapping[str, Any], position: tirx.Expr, pair: tirx.Expr, d: int, theta: float
) -> _Rotation:
    """Return cosine, sine and the variables they are written in, for `pair` of d / 2.

    `scaling` is a table of `olmo.configuration.rope_scaling`, empty for none; `position` is float32.
    """
    kind = scaling.get("rope_type")
    if kind == "linear":
        # the cache's keys are rotated once, so scaled positions are all there is to it
        position = position * tirx.const(1 / scaling["factor"], "float32")
        return _plain({}, position, pair, d, theta)
    if kind == "yarn":
        return _yarn(scaling, position, pair, d, theta)
    return _plain(scaling, position, pair, d, theta)


def with_variables(expression: tirx.Expr, variables: Mapping[tirx.Var, tirx.Expr]) -> tirx.Expr:
    """Return `expression` with the variables of a rotation bound to their values."""
    for variable, value in variables.items():
        expression = tirx.Let(variable, value, expression)
    return expression


def yarn_range(scaling: Mapping[str, Any], d: int, theta: float) -> tuple[float, float]:
    """Return the pairs between which YaRN passes from the trained angle to the scaled one."""

    def turning(rotations: float) -> float:
        """Return the pair that turns this often within the trained window."""
        window = scaling["original_max_position_embeddings"]
        return d * math.log(window / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    first = turning(scaling.get("beta_fast", BETA_FAST))
    last = turning(scaling.get("beta_slow", BETA_SLOW))
    if scaling.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, d - 1)
    return first, last + 0.001 if first == last else last


def yarn_attention_factor(scaling: Mapping[str, Any]) -> float:
    """Return what YaRN multiplies cosine and sine by."""
    if "attention_factor" in scaling:
        return float(scaling["attention_factor"])
    factor = scaling["factor"]
    if "mscale" in scaling and "mscale_all_dim" in scaling:
        return _mscale(factor, scaling["mscale"]) / _mscale(factor, scaling["mscale_all_dim"])
    return _mscale(factor, 1.0)


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _yarn(
    scaling: Mapping[str, Any], position: tirx.Expr, pair: tirx.Expr, d: int, theta: float
) -> _Rotation:
    first, last = yarn_range(scaling, d, theta)
    place = (pair.astype("float32") - _f32(first)) / _f32(last - first)
    scaled = tirx.max(tirx.min(place, _f32(1)), _f32(0))  # 0: as trained, 1: all scaled
    blend = (_f32(1) - scaled) + scaled * _f32(1 / scaling["factor"])
    cos, sin, variables = _plain({}, position * blend, pair, d, theta)
    weight = _f32(yarn_attention_factor(scaling))
    return cos * weight, sin * weight, variables


def _plain(
    scaling: Mapping[str, Any], position: tirx.Expr, pair: tirx.Expr, d: int, theta: float
) -> _Rotation:
    cos, sin, variables = switch_rope_freq_func(dict(scaling))(position, pair, d, theta, "float32")
    return cos, sin, variables


def _f32(value: float) -> tirx.Expr:
    return tirx.const(value, "float32")
