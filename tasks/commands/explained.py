"""doit's own messages told as ours are: what is wrong in one line, and the way out as a hint."""

from __future__ import annotations

import difflib
import errno
import gc
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from doit.cmdparse import CmdParseError
from doit.exceptions import InvalidCommand

from cache.errors import CacheError, unavailable
from olmo.errors import OlmoError
from tasks.errors import BuildError
from tasks.graph import message

HELP = frozenset({"--help", "-h"})

_NO_OPTION = re.compile(
    r"Error parsing \w+: (?:option )?(.*?)(?: not recognized)? \(parsing options", re.DOTALL
)
_WRONG_VALUE = re.compile(r"Error parsing parameter '(\w+)'(?:\.| <.*?>\.)\s+(.*)", re.DOTALL)
_NO_NUMBER = re.compile(r"(?:invalid literal for int.*?|could not convert string to float): (.*)")
_NO_TASK = re.compile(r"'(.*)' is not a task\.")
_SESSION = "session"  # doit takes it from DOIT_CONFIG, for commands that ask for it
_NO_SESSION = (
    "the file of tasks has no build of a matrix\n"
    "hint: leave --file out; another matrix is doit matrix=FILE"
)
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


class Explained:
    """Mixed into a command of doit's: its user's mistakes end in one message, without a traceback."""

    def parse_execute(self: Any, in_args: list[str]) -> int:
        """Parse and execute; where nobody reads on what is printed, that is no failure.

        Raises InvalidCommand, which doit prints and ends with 3.
        """
        try:
            with _few_full_collections():
                code = self._explained(in_args)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except KeyError as error:
            if error.args != (_SESSION,):
                raise
            raise InvalidCommand(_NO_SESSION) from None
        return int(code)

    def _explained(self: Any, in_args: list[str]) -> int:
        try:
            return int(super().parse_execute(in_args) or 0)  # type: ignore[misc]  # doit's, in the class it is mixed into
        except CmdParseError as error:
            if HELP.intersection(in_args):
                print(self.help())
                return 0
            raise InvalidCommand(_option(self, str(error))) from None
        except InvalidCommand as error:
            name = error.not_found or _named(str(error))
            if name is None:
                raise
            raise InvalidCommand(_name(self, name)) from None
        except (BuildError, CacheError, OlmoError) as error:
            raise InvalidCommand(message(error)) from None
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            raise InvalidCommand(message(unavailable(error, "", store=False))) from None
        except KeyboardInterrupt:
            sys.stderr.write("\ninterrupted\n")
            return 128 + signal.SIGINT

    def tasks(self: Any) -> list[str]:
        """Return the names of the tasks that can be asked for, without groups."""
        return [task.name for task in self.task_list or () if not task.has_subtask]


@contextmanager
def _few_full_collections() -> Iterator[None]:
    """Look for garbage among what is old a hundred times less often: a graph lasts until the end.

    Looking through a large one again and again takes a sixth of the time that planning it takes.
    """
    usual = gc.get_threshold()
    gc.set_threshold(usual[0], usual[1], 100 * usual[2])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def suggestion(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return the hint for a misspelt name: the closest known one, else what `otherwise` says."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else otherwise


def task_names(nodes: Iterable[str]) -> list[str]:
    """Return names of tasks as people type them: kinds, which are groups, and nodes."""
    names = list(nodes)
    return [*dict.fromkeys(name.partition(":")[0] for name in names), *names]


def _named(text: str) -> str | None:
    match = _NO_TASK.fullmatch(text)
    return match[1] if match else None


def _name(command: Any, name: str) -> str:
    """Say that there is no such task, or no such command where one could have been meant."""
    tasks = task_names(command.tasks())
    if command.name == "run" and name in command.loader.cmd_names:
        return f"{name!r} is a command, not a task\nhint: doit {name} …, with options behind it"
    if command.name == "run":
        known = [*tasks, *command.loader.cmd_names]
        return f"unknown task or command {name!r}\nhint: " + suggestion(
            name, known, "doit list shows the tasks, doit help the commands"
        )
    return f"unknown task {name!r}\nhint: " + suggestion(name, tasks, "doit list shows the tasks")


def _option(command: Any, text: str) -> str:
    """Say in a line what was wrong about an option."""
    more = f"doit help {command.name} shows the options"
    if match := _NO_OPTION.match(text):
        wrong = match[1]
        if " not recognized" in text and wrong.startswith("-"):
            long = [f"--{name.rstrip('=')}" for name in command.cmdparser.get_long()]
            return f"doit {command.name} has no option {wrong}\nhint: " + suggestion(
                wrong, long, more
            )
        return f"doit {command.name}: {wrong}\nhint: {more}"
    if match := _WRONG_VALUE.match(text):
        option = command.cmdparser[match[1]]
        wrong = _NO_NUMBER.sub(r"\1 is not a number", match[2].strip())
        return f"doit {command.name} --{option.long}: {wrong}\nhint: {more}"
    return text
