"""OLMo as MLC LLM runs it: configuration, weights, conversion, compilation and generation."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from olmo.chat import Chat

__all__ = ["Chat"]


def __getattr__(name: str) -> Any:
    """Import `Chat` when it is asked for: it brings tvm along."""
    if name == "Chat":
        from olmo.chat import Chat  # noqa: PLC0415  as said

        return Chat
    raise AttributeError(f"module 'olmo' has no attribute {name!r}")
