"""A library for WebAssembly with its weights, run by Node or a browser: `olmo.generation.runtime.Engine` there.

The program in `js/` that runs it is a child process, spoken to in lines of JSON. It is killed when
its time is over: a graphics driver that hangs would otherwise hang the build.
"""

import base64
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from olmo.errors import OlmoError


class WebEngine:
    """A library in the program `command`; `max_sequences` can be live at once.

    A context manager: leaving it ends the program. `limit` is the time in seconds after which the
    program is killed. Methods are those of `olmo.generation.runtime.Engine`; each raises OlmoError where the
    program fails, with its message.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        model_dir: Path,
        library: Path,
        max_sequences: int = 1,
        *,
        limit: float,
    ) -> None:
        self._program = Program(command, limit)
        self._lengths: dict[int, int] = {}
        arguments = [str(library.absolute()), str(model_dir.absolute()), max_sequences]
        try:
            self.metadata: Mapping[str, Any] = self._program.call("open", *arguments)
        except OlmoError:
            self._program.end()
            raise
        self.context_window_size: int = self.metadata["context_window_size"]
        self.prefill_chunk_size: int = self.metadata["prefill_chunk_size"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._program.end()

    def length(self, sequence: int) -> int:
        """Return the number of tokens of `sequence` in the KV cache, 0 if there is none."""
        return self._lengths.get(sequence, 0)

    def reset(self) -> None:
        """Forget every sequence."""
        self._program.call("clear")
        self._lengths.clear()

    def prefill(self, sequence: int, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Append `tokens` to `sequence` (in chunks where needed); return the last logits, [vocab]."""
        logits = np.empty(0, np.float32)
        for start in range(0, len(tokens), self.prefill_chunk_size):
            chunk = tokens[start : start + self.prefill_chunk_size]
            self._extend({sequence: len(chunk)})
            logits = self._program.call("prefill", sequence, list(chunk))
        return logits

    def decode(self, sequence: int, token: int) -> NDArray[np.float32]:
        """Append one token to `sequence` and return the logits after it, [vocab]."""
        self._extend({sequence: 1})
        found: NDArray[np.float32] = self._program.call("decode", sequence, token)
        return found

    def batch_prefill(self, prompts: Mapping[int, Sequence[int]]) -> NDArray[np.float32]:
        """Append to several sequences at once; return their last logits, [sequences, vocab]."""
        self._extend({sequence: len(tokens) for sequence, tokens in prompts.items()})
        tokens = [list(tokens) for tokens in prompts.values()]
        return self._rows("batch_prefill", list(prompts), tokens)

    def batch_decode(self, tokens: Mapping[int, int]) -> NDArray[np.float32]:
        """Append one token to each of several sequences; return the logits, [sequences, vocab]."""
        self._extend(dict.fromkeys(tokens, 1))
        return self._rows("batch_decode", list(tokens), list(tokens.values()))

    def memory(self) -> int:
        """Return the largest memory of the module so far, in bytes."""
        return int(self._program.call("memory"))

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the result of another method of the program."""
        return self._program.call(method, *arguments)

    def _rows(self, method: str, sequences: list[int], given: Any) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._program.call(method, sequences, given)
        return found.reshape(len(sequences), -1)

    def _extend(self, lengths: Mapping[int, int]) -> None:
        for sequence, length in lengths.items():
            if sequence not in self._lengths:
                self._program.call("add", sequence)
            self._lengths[sequence] = self.length(sequence) + length


class Program:
    """A child that answers one request at a time; what it says on standard error explains errors."""

    def __init__(self, command: Sequence[str | Path], limit: float) -> None:
        self._name = Path(command[0]).name
        self._limit = limit
        self._child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # so that killing it kills what it has started
        )
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._is_over = False
        self._timer = threading.Timer(limit, self._kill)
        self._timer.daemon = True
        self._timer.start()

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the result of a request.

        Raises:
            OlmoError: the request failed, or the program has ended or was killed.
        """
        line = json.dumps({"method": method, "arguments": arguments})
        try:
            _pipe(self._child.stdin).write(line + "\n")
            _pipe(self._child.stdin).flush()
            answer = _pipe(self._child.stdout).readline()
        except OSError:
            answer = ""
        if not answer:
            raise OlmoError(self._why_it_ended())
        found = json.loads(answer)
        if "error" in found:
            raise OlmoError(f"{self._name}: {method}: {found['error']}")
        result = found["result"]
        if isinstance(result, dict) and set(result) == {"float32"}:
            return np.frombuffer(base64.b64decode(result["float32"]), "<f4")
        return result

    def end(self) -> None:
        """End the program, and wait until it has."""
        self._timer.cancel()
        _pipe(self._child.stdin).close()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._kill()
            self._child.wait()
        self._listener.join()
        _pipe(self._child.stdout).close()
        _pipe(self._child.stderr).close()

    def _kill(self) -> None:
        self._is_over = True
        os.killpg(self._child.pid, signal.SIGKILL)

    def _listen(self) -> None:
        for line in _pipe(self._child.stderr):
            self._said.append(line.rstrip())

    def _why_it_ended(self) -> str:
        self._child.wait()
        self._listener.join()
        if self._is_over:
            return f"{self._name} was stopped: it took longer than {self._limit:.0f} s"
        last = "\n".join(self._said[-5:]) or "it said nothing"
        return f"{self._name} has ended: {last}"


def _pipe(stream: Any) -> Any:
    return stream
