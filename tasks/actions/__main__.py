"""`python -m tasks.actions MODULE`: run one action in the current directory, an input root.

Reads `params.json`, `inputs/` and writes `outputs/`, as a remote worker does.
"""

import importlib
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    parameters = json.loads(Path("params.json").read_text(encoding="utf-8"))
    made = Path("outputs")
    made.mkdir(exist_ok=True)
    importlib.import_module(sys.argv[1]).run(parameters, Path("inputs"), made)
