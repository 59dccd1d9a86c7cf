"""What `doit plan` of a large release costs: `python bench/plan.py [MODELS]`.

The matrix is that of bench/cluster_sim.py, of 100 models by default. `doit plan` runs in processes of
its own, with an empty cache, with one that has a result for every node, and with an empty one before a
nginx that has them: small files stand for weights and libraries, as many as a model of 1.2 billion
parameters has, and the disk is not waited for. CPU seconds and peak memory of the process are printed,
beside those of `doit help`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path = [str(ROOT), *sys.path[1:], str(ROOT / "bench")]  # which has a cache.py, not to be found

from cluster_sim import MODELS, large_matrix  # noqa: E402  (after the path is set)

from cache import sealing  # noqa: E402  (as above)
from cache.action import ActionResult  # noqa: E402  (as above)
from cache.digest import Digest  # noqa: E402  (as above)
from tasks.graph import open_session  # noqa: E402  (as above)
from tasks.keys import OUTPUTS  # noqa: E402  (as above)
from tasks.node import Selection  # noqa: E402  (as above)
from tasks.workspace import source_outputs  # noqa: E402  (as above)
from tests.cache.servers import nginx  # noqa: E402  (as above)

SHARDS = 25
FILES = {
    "download": ("architecture.json", "config.json", "tokenizer.json", "model.safetensors"),
    "convert": ("tensor-cache.json", *(f"params_shard_{n}.bin" for n in range(SHARDS))),
    "gen_config": ("compile-spec.json", "mlc-chat-config.json", "tokenizer.json"),
    "lower": ("module.json",),
    "compile": ("library",),
    "verify": ("report.json",),
}


def toml(matrix: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    """Return a matrix as a file has it."""
    lines = []
    for name, model in matrix["models"].items():
        lines += [f"[models.{name}]", *(f"{key} = {value!r}" for key, value in model.items())]
    (table,) = matrix["release"]
    return "\n".join([*lines, "[[release]]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())])


def fill(root: Path, environment: Mapping[str, str]) -> dict[Digest, ActionResult]:
    """Put a result for every node into the cache, and return them by key."""
    current = open_session(root, environment)
    workspace, made = current.workspace, dict[str, Mapping[str, Digest]]()
    store, sources = workspace.store, workspace.graph.sources
    results = {}

    def outputs_of(selection: Selection) -> Mapping[str, Digest]:
        source = sources.get(selection.producer)
        return source_outputs(workspace, source, selection) if source else made[selection.producer]

    for node in workspace.graph.nodes.values():
        keyed = current.keys.keyed(node, outputs_of)
        if node.kind == "package":
            row = json.loads(node.params)
            read = {place: one.digest for place, one in keyed.inputs.items()}
            outputs = {f"libs/{row['library']}": read.pop("library/library")}
            outputs[f"libs/{row['library']}.json"] = read.pop("verify/report.json")
            outputs |= {f"{row['directory']}/{p.split('/')[1]}": d for p, d in read.items()}
        else:
            _, _, rest = node.name.partition(":")
            names = FILES.get(node.kind, (f"{rest}.o",))
            outputs = {name: store.write(f"{node.name} {name}".encode()) for name in names}
            made[node.name] = outputs
        result = ActionResult({f"{OUTPUTS}/{path}": digest for path, digest in outputs.items()})
        store.put_result(keyed.key, result)
        results[keyed.key] = result
    store.stat.flush()
    return results


def hand_over(results: Mapping[Digest, ActionResult], cache: Path, files: Path) -> None:
    """Give a server the results that a cache has, and the cache's blobs."""
    for blob in cache.glob("v1/cas/*/*"):
        blob.rename(files / "cas" / blob.name)
    for key, result in results.items():
        (files / "ac" / key.hash).write_bytes(sealing.seal_message(key, result))


def measured(command: str, root: Path, environment: Mapping[str, str]) -> tuple[str, str]:
    """Run a command of doit; return what it cost, and its last line."""
    arguments = (sys.executable, "-m", "doit", command)
    with subprocess.Popen(
        arguments, cwd=root, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        (last,) = deque(process.stdout, maxlen=1)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    cpu = usage.ru_utime + usage.ru_stime
    return f"{cpu:.1f} CPU s, peak {usage.ru_maxrss / 1024:.0f} MiB", last.strip()


def main() -> None:
    """Print what planning costs, with an empty cache and with a full one."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else MODELS
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "matrix.toml").write_text(toml(large_matrix(count)), encoding="utf-8")
        for name in ("dodo.py", "pyproject.toml"):
            shutil.copy(ROOT / name, root)
        environment = {"OLMILL_CACHE_DIR": str(root / "cache"), "PYTHONPATH": str(ROOT)}
        cost, _ = measured("help", root, environment)
        print(f"doit help: {cost}")
        print("empty cache: {}: {}".format(*measured("plan", root, environment)), flush=True)
        os.fsync = lambda _: None
        results = fill(root, environment)
        print("full cache: {}: {}".format(*measured("plan", root, environment)), flush=True)
        (root / "server").mkdir()
        with nginx(root / "server") as server:
            hand_over(results, root / "cache", server.files)
            shutil.rmtree(root / "cache")
            environment["OLMILL_REMOTE_CACHE"] = server.address
            print("remote cache: {}: {}".format(*measured("plan", root, environment)))


if __name__ == "__main__":
    main()
