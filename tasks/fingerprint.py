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
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path

from cache.digest import Digest, of_bytes
from cache.local.stat_cache import StatCache
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
    """What the key needs of one source file, whose `path` is below the project's root."""

    path: str
    normalised: Digest
    imports: tuple[str, ...]  # absolute dotted names, `package.attribute` included
    tools: tuple[str, ...]  # distribution names in its `TOOLS`


@dataclass(frozen=True)
class Code:
    """An action's code: relative path of each module → digest of its normalised source."""

    files: Mapping[str, Digest]
    tools: Mapping[str, str]  # distribution → version


class Sources:
    """The Python modules below a directory; each is looked for and read once, for all closures."""

    def __init__(self, root: Path, stat: StatCache) -> None:
        self.root = root
        self._stat = stat
        self._listed: dict[str, frozenset[str]] = {}
        self._modules: dict[str, Module | None] = {}

    @cached_property
    def packages(self) -> frozenset[str]:
        """Names that `import` finds in the directory itself: its modules and packages."""
        names = self._names("")
        modules = {name.removesuffix(".py") for name in names if name.endswith(".py")}
        return frozenset(modules | {name for name in names if "__init__.py" in self._names(name)})

    def module(self, name: str) -> Module | None:
        """Return the module or package of a dotted name, None if there is none.

        Raises BuildError if it is not Python.
        """
        if name not in self._modules:
            path = self._locate(name)
            self._modules[name] = None if path is None else _read(path, self.root, self._stat)
        return self._modules[name]

    def _locate(self, name: str) -> str | None:
        directory, _, last = name.replace(".", "/").rpartition("/")
        base = f"{directory}/{last}" if directory else last
        names = self._names(directory)
        if last in names and "__init__.py" in self._names(base):
            return f"{base}/__init__.py"
        return f"{base}.py" if f"{last}.py" in names else None

    def _names(self, directory: str) -> frozenset[str]:
        """Names of what is in a directory, by its path below the root; none if it is no directory."""
        if directory not in self._listed:
            try:
                with os.scandir(self.root / directory) as entries:
                    self._listed[directory] = frozenset(entry.name for entry in entries)
            except (FileNotFoundError, NotADirectoryError):
                self._listed[directory] = frozenset()
        return self._listed[directory]


def closure(module: str, sources: Sources) -> Code:
    """Code of the action in `module`, a dotted name.

    The `__main__` beside it, which runs it in an input root, is part of it.

    Raises BuildError if a module is missing or not Python, or imports a package that
    DISTRIBUTIONS does not know.
    """
    files: dict[str, Digest] = {}
    tools: dict[str, str] = {}
    pending, seen = [module, f"{module.rpartition('.')[0]}.__main__"], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        pending.extend(_packages(name))
        found = sources.module(name)
        if found is None:
            if name == module:
                raise BuildError(f"action module {module} is not below {sources.root}")
            continue  # `package.attribute`: its package is pending on its own
        files[found.path] = found.normalised
        distributions = list(found.tools)
        for imported in found.imports:
            if imported.partition(".")[0] in sources.packages:
                pending.append(imported)
            else:
                distributions.extend(_distributions(imported, found.path))
        tools.update((distribution, version(distribution)) for distribution in distributions)
    return Code(dict(sorted(files.items())), dict(sorted(tools.items())))


def _distributions(imported: str, path: str) -> tuple[str, ...]:
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


def _read(path: str, root: Path, stat: StatCache) -> Module:
    """Read the module at `path` below `root`, or remember what it was found to be."""
    file = root / path
    memo = f"{MEMO}:{path}"  # relative imports depend on the place
    stored = stat.memo_get(memo, file)
    if stored is not None:
        digest, size, imports, tools = json.loads(stored)
        return Module(path, Digest(digest, size), tuple(imports), tuple(tools))
    try:
        source = file.read_text(encoding="utf-8")
        normalised = of_bytes(normalise(source).encode())
        tree = ast.parse(source)
    except (SyntaxError, UnicodeDecodeError, OSError) as error:
        raise BuildError(f"cannot read the code of {file}: {error}") from None
    imports = tuple(_imports(tree, path.split("/")[:-1]))
    module = Module(path, normalised, imports, _tools(tree))
    value = json.dumps([normalised.hash, normalised.size, module.imports, module.tools])
    stat.memo_put(memo, file, value.encode())
    return module


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
