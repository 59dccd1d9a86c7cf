"""What an entry point of a library is: a name, its arguments, and what it computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

KV = "kv"
INT = "int"
Argument = str | tuple[tuple[int | str, ...], str]


@dataclass(frozen=True)
class EntryPoint:
    """One function: `body(model, *arguments)` with these argument specs, in this order.

    An argument is a shape (names are symbolic dimensions, "H" and "V" the model's) with a dtype
    ("D": the model's), the KV cache, or an integer passed as a shape of one element.
    """

    name: str
    body: Callable[..., Any]
    arguments: Mapping[str, Argument]
    packed: bool = True
