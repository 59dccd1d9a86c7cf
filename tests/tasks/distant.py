"""An action of toy projects that workers of a cluster can run."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

from tests.tasks.toy import Project, Step

ROOT = Path(__file__).resolve().parents[2]

DISTANT = '''
    """Concatenate, as a worker does; first wait for the gate, where that is asked for."""

    import time
    from pathlib import Path

    GATE = Path("/gate")


    class Mistake(Exception):
        hint = "do it otherwise"


    def run(params, inputs, outputs):
        """Write the text and the inputs."""
        text = params["text"]
        if params.get("waits"):
            (GATE / text).touch()
            while not (GATE / "open").exists():
                time.sleep(0.01)
        if params.get("fail"):
            path = next(inputs.rglob("*.txt"), inputs)
            raise Mistake(f"{path} is wrong") if text else RuntimeError("told to fail")
        for path in sorted(inputs.rglob("*")):
            if path.is_file():
                text += path.read_text()
        (outputs / "out.txt").write_text(text[: params.get("keep")] or "-")
        if params.get("extra"):
            (outputs / "deep" / "er").mkdir(parents=True)
            (outputs / "deep" / "er" / "extra.log").write_text(text)
            return ["it is deep"]
'''


def distant(root: Path, steps: dict[str, Step]) -> Project:
    """Make a project in which steps can be `remote`, with a cache of its own."""
    project = Project(root / "project", root / "cache", steps)
    actions = project.root / "toyactions"
    (actions / "distant.py").write_text(textwrap.dedent(DISTANT))
    shutil.copyfile(ROOT / "tasks" / "actions" / "__main__.py", actions / "__main__.py")
    (project.source / "one.txt").write_text("1")
    return project
