"""Reports for tests of their forms: two models, every state, and names that mean harm."""

from tasks.report.records import Conversion, WeightError
from tasks.report.releases import Cell, Release, Step

HOSTILE = "<script>alert(1)</script>\"'&|`*[x](javascript:alert(1))"
EXECUTED = {
    "state": "executed",
    "how": "on x86_64",
    "accuracy": {
        "logits_within": 1e-6,
        "logits_of_functions_within": {"prefill": 1e-7, "decode": 1e-6},
        "questions": {
            "right": 9,
            "total": 10,
            "every": 1,
            "wrong": [{"number": 1, "question": "1 + 1?", "answer": "2", "answered": "3"}],
        },
    },
    "checks": ["a file"],
}
CHECKED = {"state": "checked", "how": "PE x86_64", "checks": ["a PE file", "no path"]}
UNVERIFIED = {
    "state": "unverified",
    "how": "node is missing",
    "checks": [],
    "install": "sudo apt-get install nodejs",
}
FILES = {"library": "libs/a b.so", "manifest": "libs/a.json", "provenance": "provenance/a.json"}


def sample() -> Release:
    """Return a report of four rows and three columns, one cell of which the matrix leaves out."""
    nodes = ("convert:m", "compile:m", "package:m")
    cells = (
        Cell(
            *("m", "q0f32", 256, "", "linux-x86_64-cpu", "built"),
            key="0123456789abcdef" * 4,
            library=3 << 20,
            weights=1 << 30,
            verified=EXECUTED,
            seconds=75.0,
            nodes=nodes,
            files=FILES,
        ),
        Cell(
            *("m", "q0f32", 256, "", "webgpu", "cached"),
            library=1 << 20,
            weights=1 << 30,
            verified=UNVERIFIED,
        ),
        Cell(
            *("m", "q4f16_1", 256, "", "linux-x86_64-cpu", "stale", "its key changed"),
            library=2 << 20,
            weights=1 << 28,
            verified=EXECUTED,
        ),
        Cell(*("m", "q4f16_1", 256, "", "webgpu", "not built"), reason="never built here"),
        Cell(
            *("m", "q4f16_1", 1024, "tp2", "windows-x86_64-cpu", "remote"),
            library=5 << 20,
            weights=1 << 28,
            verified=CHECKED,
        ),
        Cell(
            *(HOSTILE, HOSTILE, 256, "", HOSTILE, "broken"),
            reason=HOSTILE,
            key="f" * 64,
            library=1,
            weights=1,
            verified={"state": "checked", "how": HOSTILE, "checks": [HOSTILE]},
            files={"library": f"libs/{HOSTILE}"},
        ),
    )
    weights = (WeightError("embedding", 0.5, 0.125), WeightError(HOSTILE, 0.25, 0.0625))
    conversions = (
        Conversion("m", "q0f32", 1 << 28, 1 << 30, 32.0, ()),
        Conversion("m", "q4f16_1", 1 << 28, 1 << 28, 4.5, weights),
        Conversion(HOSTILE, HOSTILE, 1, 1, 4.5, weights),
    )
    steps = (
        Step("convert:m", "current", (), 5.0),
        Step("compile:m", "current", ("convert:m",), 70.0),
        Step("package:m", "current", ("convert:m", "compile:m"), 0.0),
        Step(f"lower:{HOSTILE}", "waiting"),
    )
    return Release(cells, conversions, steps)
