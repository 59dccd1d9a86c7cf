"""The code and tools of an action, as its key sees them.

An action's code is the import closure of its module within the project: every module that its
static imports reach, at any depth of nesting, with the `__init__` of each package on the way.
Modules are keyed by normalised source, so that comments, docstrings and formatting do not
count; the normalised source is itself runnable Python, the same under every Python version.
Tools are the third-party distributions the closure imports, and those in a module's `TOOLS`.

Source: the closure follows `import` statements as the Python reference defines them; imports
under `if TYPE_CHECKING:` never run and are left out. Dynamic imports are invisible here: code
that an action reaches must import statically (a test holds the project to it).
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from cache.digest import Digest, of_bytes
from cache.stat_cache import StatCache
from tasks.errors import BuildError
from tasks.normalise import normalise

# Names the memo of parsed modules; change it whenever `normalise` or `_parse` changes.
MEMO = "tasks.fingerprint/1"

# Distribution of each third-party package that actions import. An import that is not here is
# an error, so that no tool goes unkeyed. The distributions of a row change artifacts together.
DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "gguf": ("gguf",),
    "huggingface_hub": (),  # bytes are checked against the Hub's own sha256
    "lief": ("lief",),
    "ml_dtypes": ("ml_dtypes",),
    "numpy": ("numpy",),
    "safetensors": ("safetensors",),
    "tokenizers": ("tokenizers",),
    "tvm": ("apache-tvm", "apache-tvm-ffi"),
    "tvm_ffi": ("apache-tvm-ffi",),
    "ziglang": ("ziglang",),
}


@dataclass(frozen=True)
class Module:
    """What the key needs of one source file."""

    normalised: Digest
    imports: tuple[str, ...]  # absolute dotted names, `package.attribute` included
    tools: tuple[str, ...]  # distribution names in its `TOOLS`


@dataclass(frozen=True)
class Code:
    """An action's code: relative path of each module → digest of its normalised source."""

    files: Mapping[str, Digest]
    tools: Mapping[str, str]  # distribution → version


def closure(module: str, root: Path, stat: StatCache) -> Code:
    """Code of the action in `module` (dotted name, below `root`).

    The `__main__` beside it, which runs it in an input root, is part of it.

    Raises BuildError if a module is missing or not Python, or imports a package that
    DISTRIBUTIONS does not know.
    """
    files: dict[str, Digest] = {}
    tools: dict[str, str] = {}
    pending, seen = [module, f"{module.rpartition('.')[0]}.__main__"], set[str]()
    packages = _project_packages(root)
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        pending.extend(_packages(name))
        path = _locate(name, root)
        if path is None:
            if name == module:
                raise BuildError(f"action module {module} is not below {root}")
            continue  # `package.attribute`: its package is pending on its own
        found = _read(path, root, stat)
        files[path.relative_to(root).as_posix()] = found.normalised
        distributions = list(found.tools)
        for imported in found.imports:
            if imported.partition(".")[0] in packages:
                pending.append(imported)
            else:
                distributions.extend(_distributions(imported, path.relative_to(root)))
        tools.update((distribution, version(distribution)) for distribution in distributions)
    return Code(dict(sorted(files.items())), dict(sorted(tools.items())))


def _distributions(imported: str, path: Path) -> tuple[str, ...]:
    top = imported.partition(".")[0]
    if top in sys.stdlib_module_names:
        return ()
    if top not in DISTRIBUTIONS:
        raise BuildError(
            f"{path} imports {top}, which tasks.fingerprint.DISTRIBUTIONS does not name"
        )
    return DISTRIBUTIONS[top]


@cache
def version(distribution: str) -> str:
    """Version of an installed distribution, `absent` if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def _packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    for length in range(1, len(parts)):
        yield ".".join(parts[:length])


def _project_packages(root: Path) -> set[str]:
    found = {path.stem for path in root.glob("*.py")}
    return found | {path.parent.name for path in root.glob("*/__init__.py")}


def _locate(name: str, root: Path) -> Path | None:
    base = root.joinpath(*name.split("."))
    for candidate in (base / "__init__.py", base.with_name(base.name + ".py")):
        if candidate.is_file():
            return candidate
    return None


def _read(path: Path, root: Path, stat: StatCache) -> Module:
    memo = f"{MEMO}:{path.relative_to(root).as_posix()}"  # relative imports depend on the place
    stored = stat.memo_get(memo, path)
    if stored is not None:
        digest, size, imports, tools = json.loads(stored)
        return Module(Digest(digest, size), tuple(imports), tuple(tools))
    try:
        source = path.read_text(encoding="utf-8")
        normalised = of_bytes(normalise(source).encode())
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, OSError) as error:
        raise BuildError(f"cannot read the code of {path}: {error}") from None
    module = Module(normalised, tuple(_imports(tree, _package_of(path, root))), _tools(tree))
    value = json.dumps([normalised.hash, normalised.size, module.imports, module.tools])
    stat.memo_put(memo, path, value.encode())
    return module


def _package_of(path: Path, root: Path) -> Sequence[str]:
    return path.relative_to(root).parent.parts


def _imports(tree: ast.AST, package: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found.update(dict.fromkeys(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - (node.level - 1)]
                base = ".".join([*above, *filter(None, [node.module])])
            found[base] = None
            found.update(dict.fromkeys(f"{base}.{alias.name}" for alias in node.names))
        else:
            pending.extend(ast.iter_child_nodes(node))
    return sorted(found)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _tools(tree: ast.Module) -> tuple[str, ...]:
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(t, ast.Name) and t.id == "TOOLS" for t in targets):
                if statement.value is None:
                    return ()
                return tuple(ast.literal_eval(statement.value))
    return ()
