"""`[publish]` of a matrix: which rows go to which repository of the Hub, and which are let go."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from olmo.verification.report import STATES, State
from tasks.configuration.mistakes import Key, Mistakes
from tasks.configuration.release import Row

KEYS: Mapping[str, Key] = {
    "repo": Key(
        "text",
        "the repository of a row, with `{model}`, `{quantization}` and `{window}`, such as "
        '`"org/{model}-{quantization}-ctx{window}-MLC"`',
    ),
    "verified": Key(
        "`executed`, `checked` or `unverified`",
        "the least that is published: a row of which less is known is refused",
        "`checked`",
    ),
    "private": Key("true or false", "whether a repository that is made is private", "true"),
}

_FIELDS = ("model", "quantization", "window")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?")
_LONGEST = 96  # characters of a repository's name, by the Hub


@dataclass(frozen=True)
class Publication:
    """Where rows are published: a name for each, the least verification, and who sees new ones."""

    repo: str
    verified: State = "checked"
    private: bool = True

    def repository(self, row: Row) -> str:
        """Return the repository of a row; the window has the devices of several behind it."""
        return self.repo.format(model=row.model, quantization=row.quantization, window=row.variant)

    def allows(self, state: str) -> bool:
        """Whether a row may be published of which that is known."""
        return state in STATES and STATES.index(state) <= STATES.index(self.verified)


def read_publication(value: Any, rows: Iterable[Row], mistakes: Mistakes) -> Publication | None:
    """Read the `[publish]` of a matrix; note what is wrong with it."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        mistakes.add("publish", f"expected a table, found {type(value).__name__}")
        return None
    before = len(mistakes.lines)
    mistakes.keys("publish", value, KEYS)
    publication = Publication(
        value.get("repo", ""), value.get("verified", "checked"), value.get("private", True)
    )
    if publication.verified not in STATES:
        mistakes.unknown("publish.verified", "state", str(publication.verified), STATES)
    if not isinstance(publication.private, bool):
        mistakes.add("publish.private", "expected true or false")
    if not publication.repo or not isinstance(publication.repo, str):
        mistakes.add("publish", "repo is missing", 'repo = "org/{model}-{quantization}-MLC"')
    elif _is_pattern(publication.repo, mistakes):
        _check_names(publication, rows, mistakes)
    return publication if len(mistakes.lines) == before else None


def _is_pattern(repo: str, mistakes: Mistakes) -> bool:
    try:
        parts = list(Formatter().parse(repo))
    except ValueError as error:
        mistakes.add(
            "publish.repo", f"{repo!r}: {error}", "write {model}, {quantization}, {window}"
        )
        return False
    for _, name, form, conversion in parts:
        if name is not None and name not in _FIELDS:
            mistakes.unknown("publish.repo", "name", name, _FIELDS)
            return False
        if form or conversion:
            mistakes.add("publish.repo", f"{repo!r}: a name in braces has nothing behind it")
            return False
    return True


def _check_names(publication: Publication, rows: Iterable[Row], mistakes: Mistakes) -> None:
    found: dict[str, tuple[str, ...]] = {}
    for row in rows:
        name, weights = publication.repository(row), (row.model, row.quantization, row.variant)
        other = found.setdefault(name.lower(), weights)
        if other != weights:
            both = " and ".join(" ".join(one) for one in (other, weights))
            hint = "use {model}, {quantization} and {window} as far as they differ"
            mistakes.add("publish.repo", f"{name} would be of {both}", hint)
            return
        if _REPO.fullmatch(name) is None or len(name) > _LONGEST or re.search(r"--|\.\.", name):
            hint = f"write it as owner/name, at most {_LONGEST} characters, without -- and .."
            mistakes.add("publish.repo", f"{name!r} is no name of a repository", hint)
            return
