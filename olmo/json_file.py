"""JSON as people write it and programs trust it: duplicate keys and non-JSON numbers are errors."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from olmo.errors import OlmoError


def read_json(path: Path) -> Any:
    """Return the parsed file.

    Raises:
        OlmoError: the file is absent, unreadable, not UTF-8, or not JSON (with the line).
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise OlmoError(f"{path}: no such file") from None
    except OSError as error:
        raise OlmoError(f"{path}: {error.strerror}") from None
    return parse_json(data, str(path))


def parse_json(data: bytes, where: str) -> Any:
    """Return the parsed bytes; `where` names them in errors.

    Raises:
        OlmoError: not UTF-8, not JSON, a duplicate key, NaN or Infinity, or an integer of more digits
            than Python reads.
    """

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key, count in counts.items() if count > 1)
            raise OlmoError(f"{where}: the key {twice!r} occurs twice")
        return table

    def no_constant(name: str) -> NoReturn:
        raise OlmoError(f"{where}: {name} is not JSON")

    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=no_constant
        )
    except UnicodeDecodeError as error:
        raise OlmoError(f"{where}: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise OlmoError(f"{where}: not JSON: {error.msg} at line {error.lineno}") from None
    except ValueError:  # of thousands of digits: Python refuses to take the time
        raise OlmoError(f"{where}: holds an integer that is too long") from None
    except RecursionError:
        raise OlmoError(f"{where}: JSON nested too deeply") from None
