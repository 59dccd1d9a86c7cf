"""C and C++ that the web runtime is built with, beside TVM's own sources."""

from pathlib import Path

NATIVE = Path(__file__).parent
