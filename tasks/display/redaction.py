"""What is left out of every text that is kept or sent on: the parts of addresses that are secrets."""

from __future__ import annotations

import re

_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(\w://[^\s?#'\"<>]+)\?[^\s'\"<>]*")  # signatures of stores are in it


def redacted(text: str) -> str:
    """Return a text whose addresses have neither logins nor queries.

    No other secret comes into a message: credentials are named by where they come from.
    """
    return _QUERY.sub(r"\1?…", _LOGIN.sub("", text))
