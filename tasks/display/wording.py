"""What events are called: the sentences of a run, the same in a terminal, a pipe and in CI."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from tasks.assess import State
from tasks.board import Progress
from tasks.display.amounts import duration_text, size_text
from tasks.display.events import Ended, Failed, Finished, Planned
from tasks.display.style import Style

HOW = ("local", "remote", "built")  # what the last line always counts, in this order
UNDONE = ("ignored", "failed", "not run")  # and what it counts last, where there is any
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colours and moves: ECMA-48, 5.4
INTERRUPTED = "interrupted: finished nodes are kept; run doit again to go on"


def plan_line(event: Planned, seconds: float | None) -> str:
    """Say what a run is going to do, and how long that takes where it is known."""
    states = Counter(assessed.state for assessed in event.decided.values())
    cached = states[State.CURRENT] + states[State.CACHED]
    words = [
        f"plan: {_nodes(len(event.decided))}",
        f"{cached} cached",
        f"{states[State.REMOTE]} remote" + (f" ({size_text(event.fetch)})" if event.fetch else ""),
        f"{states[State.STALE] + states[State.BROKEN]} to build",
    ]
    if states[State.WAITING]:
        words.append(f"{states[State.WAITING]} after those")
    if seconds is not None and seconds >= 1:
        words.append(f"about {duration_text(seconds)}")
    return ", ".join(words)


def finished_line(event: Finished, style: Style) -> str:
    """Say what came of a node."""
    return f"{style.good(event.how.ljust(6))} {event.name}{_took(event)}"


def finished_words(event: Finished) -> str:
    """Say what came of a node, without its name."""
    return event.how + _took(event)


def _took(event: Finished) -> str:
    if event.how in ("local", "remote"):
        return ""
    return f" ({f'with {event.beside}' if event.beside else f'{event.seconds:.1f} s'})"


def failure_text(event: Failed, style: Style) -> str:
    """Say that a node failed: what is wrong, where to read more, how to try again, the way out."""
    lines = [f"{style.bad('FAILED')} {event.name} ({event.seconds:.0f} s)"]
    lines += [f"  {plain(line)}" for line in event.message.splitlines()]
    lines += [f"  | {plain(line)}" for line in event.output]
    if event.log:
        lines.append(f"  log: {event.log}")
    if event.again:
        lines.append(f"  again: {event.again}")
    if event.hint:
        lines.append(f"  hint: {plain(event.hint)}")
    return "\n".join(lines)


def plain(text: str) -> str:
    """Return a line of another's without what a terminal would obey, or cannot write."""
    text = _SEQUENCE.sub("", text).expandtabs()
    return "".join(c if c.isprintable() else " " for c in text).rstrip()


def ending(event: Ended, style: Style, *, repeat: bool) -> Iterator[str]:
    """Say how a run ended: failures once more, if asked for, and the last line."""
    if event.failures and repeat:
        yield ""
        yield from (failure_text(failure, style) for failure in event.failures)
    yield from (f"error: {error}" for error in event.errors)
    if event.table:
        yield f"\n{event.table}\n"
    yield last_line(event, style)
    if event.signal is not None:
        yield INTERRUPTED


def last_line(event: Ended, style: Style) -> str:
    """Say what came of a run."""
    counts = dict(event.counts)
    words = [f"{counts.pop(word, 0)} {word}" for word in HOW]
    words += [f"{count} {word}" for word, count in counts.items() if count and word not in UNDONE]
    for word in UNDONE:
        if counts.get(word):
            text = f"{counts[word]} {word}"
            words.append(style.bad(text) if word == "failed" else text)
    saved = f"; saved {duration_text(event.saved)}" if event.saved and event.saved >= 1 else ""
    return f"{_nodes(event.total)}: {', '.join(words)}{saved} ({event.seconds:.1f} s)"


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"


def uploading_line(results: int) -> str:
    """Say what a run is waiting for."""
    return f"uploading {results} result{'s' if results > 1 else ''}"


def progress_text(progress: Progress | None) -> str:
    """Say how far an action is, such as "1.2 of 4.7 GiB, 310 MiB/s, 12 s left"; "" if unknown."""
    return ", ".join(progress_words(progress))


def progress_words(progress: Progress | None) -> list[str]:
    """Say how far an action is: bytes, then rate and the time left where they are known."""
    if progress is None:
        return []
    if progress.stage:
        return [progress.stage]
    done, total = size_text(progress.done), size_text(progress.total)
    number, unit = done.split()
    words = [f"{number if unit == total.split()[1] else done} of {total}"]
    if progress.rate > 0 and progress.done < progress.total:
        left = duration_text((progress.total - progress.done) / progress.rate)
        words += [f"{size_text(round(progress.rate))}/s", f"{left} left"]
    return words
