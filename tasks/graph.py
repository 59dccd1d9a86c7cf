"""The doit side of the graph: tasks made of nodes, and the configuration that plugs us in."""

from __future__ import annotations

import difflib
import os
import shlex
import traceback
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

from doit import doit_cmd, get_var, loader
from doit.dependency import UptodateCalculator
from doit.exceptions import InvalidDodoFile, TaskFailed

from cache.errors import CacheError, unavailable
from cache.signing import exposed
from cache.tiered import TieredStore
from olmo.errors import OlmoError
from tasks.action_output import last_lines, written_to
from tasks.checker import ContentChecker
from tasks.configuration import cluster
from tasks.configuration import matrix as matrix_file
from tasks.configuration.environment import CACHE_DIRECTORY, MATRIX, SECRETS, check_variables
from tasks.configuration.remote_cache import RemoteCache, chosen, open_store
from tasks.configuration.trust import SIGNING_KEY, chosen_trust
from tasks.display.annotations import annotated
from tasks.display.events import Failed
from tasks.display.reporter import NodeReporter
from tasks.errors import BuildError
from tasks.keys import Keys, fields
from tasks.node import Graph, Node, producers
from tasks.plan import PACKAGE, plan
from tasks.realise import realise
from tasks.releasing import provenance
from tasks.session import Session
from tasks.state import ACTION, DISTRUSTED, DURATION, MADE, NOTICES
from tasks.waiting import waiting
from tasks.workspace import BUILD, STATE, Workspace, receipt_hash, receipt_path, remove

LOGS = "logs"
SHOWN = 20  # lines of an action's output that its failure shows
DEFECT = "this is a defect of Olmill; please report it with the log"
_VARIABLE_HINT = (
    "NAME=VALUE sets a variable, and there is only matrix=FILE; text with = in it goes to an "
    "option as --option=TEXT"
)
VARIABLES = ("matrix",)  # what `doit NAME=VALUE` may set
CODE_ROOT = Path(__file__).resolve().parents[1]

Environment = Mapping[str, str]


def open_session(root: Path, environment: Environment | None = None) -> Session:
    """Open the build of the matrix at hand, in the project `root`.

    The matrix is `doit matrix=FILE`, else OLMILL_MATRIX, else `matrix.toml`; the cache is
    OLMILL_CACHE_DIR, else `olmill` in the user's cache directory (XDG_CACHE_HOME); the remote one
    is OLMILL_REMOTE_CACHE, and whom to believe OLMILL_TRUSTED_KEYS, else those of the matrix. Without
    an `environment` it is that of the process, which has no secrets of ours from then on.

    Raises doit's InvalidDodoFile with the matrix's mistakes, which doit prints without a traceback.
    """
    environment = _taken() if environment is None else environment
    _check_started(root)
    path = root / (get_var("matrix") or environment.get(MATRIX) or "matrix.toml")
    try:
        check_variables(environment)
        matrix = matrix_file.load(path)
        remote = chosen(matrix.cache, environment)
        trust = chosen_trust(matrix.trust, environment)
        store = open_store(cache_directory(environment), remote, environment, trust)
        key = exposed(environment.get(SIGNING_KEY, ""))
        if key is not None:
            store.warn(f"{SIGNING_KEY}: everybody on this machine may read {key}: chmod 600 {key}")
        current = session(root, plan(matrix), store, matrix=matrix)
        current.environment = environment
        use_cluster(current)
    except (BuildError, CacheError, OlmoError) as error:
        raise InvalidDodoFile(annotated(message(error), environment, path)) from None
    return current


def use_cluster(current: Session, option: str | None = None) -> None:
    """Have the cluster run actions that `--remote-executor`, the environment or the matrix names.

    Where no remote cache is named, it is that, too.

    Raises BuildError for an address that is none.
    """
    matrix, environment = current.matrix, current.environment
    settings = matrix.cluster if matrix else cluster.ClusterSettings()
    found = cluster.cluster_of(cluster.chosen(settings, environment, option), environment)
    current.workspace = replace(current.workspace, cluster=found)
    cache = chosen(matrix.cache if matrix else RemoteCache(), environment)
    if found is not None:
        current.workspace.shared.attach(
            lambda: found.executor.store, reads=cache.read, writes=cache.write
        )


def _taken() -> Environment:
    """Return the environment, and take out of it what compilers and browsers need not inherit."""
    environment = dict(os.environ)
    for name in SECRETS:
        os.environ.pop(name, None)
    # read when grpc is loaded: what it writes to the terminal, our messages say
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    return environment


def _check_started(root: Path) -> None:
    """Refuse a start from elsewhere, and variables that nothing reads.

    doit reads pyproject.toml where it is started, so elsewhere it has none of our commands.

    Raises doit's InvalidDodoFile.
    """
    started = loader.initial_workdir
    if started is not None and Path(started).resolve() != root.resolve():
        raise InvalidDodoFile(f"doit was started in {started}\nhint: cd {root}, and doit there")
    for name in doit_cmd._CMDLINE_VARS or {}:  # noqa: SLF001  doit has no way to ask for all of them
        if name not in VARIABLES:
            close = difflib.get_close_matches(name, VARIABLES)
            hint = f"did you mean {close[0]}=…?" if close else _VARIABLE_HINT
            raise InvalidDodoFile(f"unknown variable {name!r}\nhint: {hint}")


def session(
    root: Path,
    graph: Graph,
    store: TieredStore,
    *,
    code_root: Path = CODE_ROOT,
    matrix: matrix_file.Matrix | None = None,
) -> Session:
    """Open the build of `graph` in the project `root`, with a store."""
    workspace = Workspace(root, code_root, graph, store)
    return Session(workspace, Keys(workspace), matrix)


def cache_directory(environment: Environment) -> Path:
    """Directory of the store, as the environment chooses it."""
    chosen = environment.get(CACHE_DIRECTORY)
    if chosen:
        return Path(chosen).expanduser().absolute()
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "olmill"


def doit_config(current: Session) -> dict[str, Any]:
    """DOIT_CONFIG of a dodo.py that builds `current`."""
    ContentChecker.stat = current.workspace.store.stat
    return {
        "backend": "olmill",
        "dep_file": str(current.workspace.root / BUILD / STATE),
        "check_file_uptodate": ContentChecker,
        "reporter": NodeReporter,
        "session": current,
        "verbosity": 2,
    }


def doit_tasks(current: Session) -> Iterator[dict[str, Any]]:
    """One doit task for each node, grouped by kind."""
    workspace = current.workspace
    for node in workspace.graph.nodes.values():
        kind, _, rest = node.name.partition(":")
        yield {
            "basename": kind,
            "name": rest,
            "doc": f"{kind} {rest.replace(':', ' ')}",
            "actions": [(run_node, [current, node])],
            "uptodate": [Decision(current, node)],
            "targets": [str(receipt_path(workspace, node.name))],
            "task_dep": [name for name in producers(node) if name in workspace.graph.nodes],
            "clean": [(clean_node, [workspace, node])],
            "io": {"capture": False},
        }


_ASKED = Signature([Parameter(n, Parameter.POSITIONAL_ONLY) for n in ("task", "values")])


class Decision(UptodateCalculator):  # type: ignore[misc]  # doit has no type information
    """doit's `uptodate` for one node; its text is the reason, for `doit info`."""

    def __init__(self, current: Session, node: Node) -> None:
        super().__init__()
        self.__signature__ = _ASKED  # doit inspects every object, which takes longer than asking
        self._session = current
        self._node = node

    def __call__(self, task: Any, values: Mapping[str, Any]) -> bool:  # noqa: ARG002  (doit's names)
        """Whether the node needs nothing."""
        if not self._session.decided:  # list and info ask without a run
            with waiting():
                self._session.decide(lambda name: self.get_val(name, "_values_:") or {})
        return self._session.is_current(self._node, values)

    def __repr__(self) -> str:
        known = self._session.decided.get(self._node.name)
        return known.reason if known is not None else "not decided yet"


def run_node(current: Session, node: Node) -> dict[str, Any] | TaskFailed:
    """Realise a node as a doit action; its values say what came of it."""
    lacking = current.workspace.lacks(node)
    if lacking is not None:
        text, _, hint = lacking.partition("\nhint: ")
        return NodeFailed(Failed(node.name, text, hint=hint or None, again=_again(node)))
    log = _log_of(current.workspace, node)
    current.board.begin(node.name)
    try:
        # threads share the streams of their process: what they write cannot be told apart
        with nullcontext() if current.threads else written_to(log):
            made = realise(
                current.workspace,
                current.keys,
                node,
                current.board,
                current.companions,
                rebuild=node.name in current.rebuild,
                wanted=node.name in current.wanted,
            )
    except (BuildError, CacheError, OlmoError) as error:
        return _failed(node, str(error), getattr(error, "hint", None), log)
    except OSError as error:
        if error.errno is None:
            return _failed(node, f"{type(error).__name__}: {error}", DEFECT, log)
        refused = unavailable(error, current.workspace.root, store=False)
        return _failed(node, str(refused), refused.hint, log)
    except Exception as error:  # noqa: BLE001  a defect of ours: its traceback belongs in the log
        return _failed(node, f"{type(error).__name__}: {error}", DEFECT, log)
    finally:
        current.board.end(node.name)
    return {
        "key": made.keyed.key.hash,
        "receipt": receipt_hash(made.outputs),
        "how": made.how,
        "seconds": round(made.seconds, 3),
        "bytes": sum(digest.size for digest in set(made.outputs.values())),
        "with": made.beside,
        "warnings": list(made.warnings),
        "here": made.here,
        "vouchers": made.vouchers,
        NOTICES: current.workspace.shared.notices(),
        DISTRUSTED: current.workspace.shared.distrusted(),
        MADE: {name: str(key) for name, key in made.made.items()},
        ACTION: fields(made.keyed),
        DURATION: made.ran,
    }


def clean_node(workspace: Workspace, node: Node, *, dryrun: bool) -> None:
    """Remove what a node put into the project; the store keeps it."""
    about = [workspace.root / provenance.place(node)] if node.kind == PACKAGE else []
    remove(workspace, node, beside=about, dry_run=dryrun)


def message(error: Exception) -> str:
    """One message for the user: what is wrong, and the way out on a line of its own."""
    hint = getattr(error, "hint", None)
    return f"{error}\nhint: {hint}" if hint else str(error)


class NodeFailed(TaskFailed):  # type: ignore[misc]  # doit has no type information
    """doit's failure of a task, with what there is to say of it."""

    def __init__(self, failure: Failed) -> None:
        super().__init__(failure.message)
        self.failure = failure


def _failed(node: Node, text: str, hint: str | None, log: Path) -> NodeFailed:
    """Fail with the error at hand; its traceback goes to the end of the log."""
    failure = Failed(node.name, text, hint=hint, again=_again(node), output=last_lines(log, SHOWN))
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(traceback.format_exc())
    except OSError:  # the disk may be what failed
        return NodeFailed(failure)
    return NodeFailed(replace(failure, log=os.path.relpath(log)))


def lost(workspace: Workspace, node: Node, text: str, hint: str) -> NodeFailed:
    """Return the failure of a node whose process is no more; its last words are in its log."""
    log = _log_of(workspace, node)
    place = os.path.relpath(log) if log.exists() else None
    output = last_lines(log, SHOWN)
    return NodeFailed(
        Failed(node.name, text, hint=hint, output=output, log=place, again=_again(node))
    )


def _log_of(workspace: Workspace, node: Node) -> Path:
    return workspace.root / BUILD / LOGS / (node.name.replace(":", "/") + ".log")


def _again(node: Node) -> str:
    """Return the command that runs a node again."""
    matrix = get_var("matrix")
    return shlex.join(["doit", *([f"matrix={matrix}"] if matrix else []), node.name])
