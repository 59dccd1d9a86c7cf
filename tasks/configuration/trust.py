"""Whose results a build believes, and who signs its own: `[trust]` of the matrix, and the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cache import signing
from cache.errors import CacheError
from cache.signing import Signer
from cache.trust import Trust
from tasks.configuration.mistakes import Key, Mistakes, is_name
from tasks.errors import BuildError

SIGNING_KEY = "OLMILL_SIGNING_KEY"
TRUSTED_KEYS = "OLMILL_TRUSTED_KEYS"
BUILDER = "OLMILL_BUILDER"

KEYS: Mapping[str, Key] = {
    "NAME": Key(
        "text",
        "an ed25519 public key, 32 bytes in base64, as `doit cache keygen` prints it; results of "
        "the remote cache that none of these keys has signed are not used",
        "none: anybody's are",
    ),
}


def read_trust(value: Any, mistakes: Mistakes) -> dict[str, bytes]:
    """Check the table `[trust]` of a matrix: public keys by name."""
    if not isinstance(value, Mapping):
        mistakes.add("trust", f"expected a table, found {type(value).__name__}")
        return {}
    keys: dict[str, bytes] = {}
    for name, text in value.items():
        where = f"trust.{name}"
        if not is_name(where, name, mistakes):
            continue
        if not isinstance(text, str):
            mistakes.add(where, f"expected a text, found {type(text).__name__}")
            continue
        try:
            public = signing.read_public(text)
        except CacheError as error:
            mistakes.add(where, str(error), error.hint)
            continue
        same = [other for other, key in keys.items() if key == public]
        if same:
            mistakes.add(where, f"the same key as {same[0]}", "delete one of them")
        keys[name] = public
    return keys


def chosen_trust(keys: Mapping[str, bytes], environment: Mapping[str, str]) -> Trust:
    """Return whom to believe and who signs: `keys` of the matrix, or those of the environment instead.

    Raises BuildError for variables that cannot be used, CacheError for a key that is none. No
    message shows a private key.
    """
    text = environment.get(TRUSTED_KEYS, "").strip()
    if text:  # an unset secret of a CI system is an empty text: that must not mean anybody
        keys = _keys_in(text)
    private = environment.get(SIGNING_KEY, "").strip()
    return Trust(keys, _signer(private, keys, environment) if private else None)


def _keys_in(text: str) -> dict[str, bytes]:
    mistakes, keys = Mistakes(), dict[str, str]()
    for part in text.replace(",", " ").split():
        name, _, key = part.partition("=")
        if not (name and key):
            mistakes.add("trust.", f"{part[:80]!r} is not NAME=KEY")
        elif name in keys:
            mistakes.add(f"trust.{name}", "the name is given twice")
        keys[name] = key
    found = read_trust(keys, mistakes)
    if mistakes.lines:
        told, _, hint = mistakes.lines[0].removeprefix("trust.").partition(" (hint: ")
        hint = hint.removesuffix(")") or "write NAME=KEY, with a comma between two"
        raise BuildError(f"{TRUSTED_KEYS}: {told.removeprefix(': ')}", hint)
    return found


def _signer(text: str, keys: Mapping[str, bytes], environment: Mapping[str, str]) -> Signer:
    for name, key in keys.items():
        if text == signing.write_public(key):  # of the same form, and easily mistaken
            told = f"{SIGNING_KEY} is the public key of {name}"
            raise BuildError(told, "give the private one, which doit cache keygen wrote to a file")
    private = signing.read_private(text, SIGNING_KEY)
    public = signing.public_of(private)
    builder = environment.get(BUILDER) or next(
        (name for name, key in keys.items() if key == public), None
    )
    if builder is None:
        raise BuildError(
            f"{SIGNING_KEY} has the public key {signing.write_public(public)}, which has no name",
            f"name it in [trust] of the matrix, or who builds in {BUILDER}",
        )
    try:
        signing.check_builder(builder)
    except CacheError as error:
        raise BuildError(f"{BUILDER}: {error}", error.hint) from None
    return Signer(builder, public, private)
