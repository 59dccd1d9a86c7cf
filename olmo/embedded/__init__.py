"""Models that live in the repository, so that a build needs no network."""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

NAMES = ("olmo-tiny",)


def path(name: str) -> Path:
    """The directory of an embedded model in Hugging Face layout.

    Raises:
        LookupError: no embedded model has this name; the message says which there are.
    """
    if name not in NAMES:
        near = get_close_matches(name, NAMES, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise LookupError(
            f"no embedded model is named {name!r}: {guess}embedded models: {', '.join(NAMES)}"
        )
    return Path(__file__).parent / name


def conv_template(name: str) -> dict[str, Any]:
    """Return the conversation template that an embedded model was trained with."""
    found: dict[str, Any] = json.loads((path(name) / "conv_template.json").read_bytes())
    return found
