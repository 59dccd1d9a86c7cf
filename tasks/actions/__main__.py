"""`python -m tasks.actions MODULE`: run one action in the current directory, an input root.

Reads `params.json`, `tools.json` and `inputs/` and writes `outputs/`, as a worker of a cluster does.
The last line of the standard output is JSON: `warnings`, or of an error that users can do something
about its text, `error`, and `hint`.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any


def check(expected: Mapping[str, str], found: Mapping[str, str | None]) -> None:
    """Refuse to run with other tools than those in the action's key: it would be a wrong result."""
    wrong = [
        f"{name} {version}, and there is {found.get(name) or 'none'}"
        for name, version in expected.items()
        if found.get(name) != version
    ]
    if wrong:
        print(json.dumps({"error": f"this needs {'; '.join(wrong)}", "hint": "docs/cluster.md"}))
        sys.exit(1)


def installed(name: str) -> str:
    """Return the version of a package, as `tasks.fingerprint` says it."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def main(name: str) -> None:
    """Run the action in the module of that name."""
    parameters: Any = json.loads(Path("params.json").read_bytes())
    tools = json.loads(Path("tools.json").read_bytes())
    check(tools["packages"], {package: installed(package) for package in tools["packages"]})
    module = importlib.import_module(name)
    inputs, made = Path("inputs").absolute(), Path("outputs").absolute()
    made.mkdir(exist_ok=True)
    try:
        if tools["programs"]:
            check(tools["programs"], module.programs(parameters))
        warnings = module.run(parameters, inputs, made)
    except Exception as error:
        if hasattr(error, "hint"):
            told = str(error).replace(str(inputs), inputs.name)  # nobody knows the worker's places
            print(json.dumps({"error": told, "hint": error.hint}))
        raise
    print(json.dumps({"warnings": list(warnings or ())}))


if __name__ == "__main__":
    main(sys.argv[1])
