"""Installing tools of verification: whole or not at all. `.ci/run` installs the real ones."""

from pathlib import Path

import pytest

from tasks import verification_tools
from tasks.errors import BuildError
from tasks.verification_tools import Apt, _call, _install, install_opencl


def test_a_tool_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    place = tmp_path / "share" / "tool"
    for content in ("old", "new"):
        _install(place, lambda into, _work, content=content: (into / content).touch())  # type: ignore[misc]  # default argument
    assert [path.name for path in place.iterdir()] == ["new"]
    assert [path.name for path in place.parent.iterdir()] == ["tool"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "tool"
    place.mkdir()
    (place / "old").touch()

    def fail(into: Path, _work: Path) -> None:
        (into / "half").touch()
        raise BuildError("no network")

    with pytest.raises(BuildError, match="no network"):
        _install(place, fail)
    assert [path.name for path in tmp_path.rglob("*")] == ["tool", "old"]


def test_a_program_that_fails_is_told_with_its_last_line() -> None:
    with pytest.raises(BuildError, match=r"^sh -c echo one; echo two; exit 1 failed: two$"):
        _call(["sh", "-c", "echo one; echo two; exit 1"])


class Calls:
    """Stands in for the system's programs; downloads are empty files."""

    def __init__(self, packages: dict[str, list[str]]) -> None:
        self.packages = packages
        self.made: list[list[str]] = []

    def __call__(self, command: list[str | Path], work: Path | None = None) -> str:
        words = [str(word) for word in command]
        self.made.append(words)
        if "pkgnames" in words:
            return "\n".join(self.packages)
        cache = next((w.partition("=")[2] for w in words if w.startswith("-oDir::Cache=")), None)
        if "download" in words or "install" in words:
            directory = work or Path(f"{cache}/archives")
            for name in self.packages.get(words[-1], []):
                (directory / name).touch()
        if words[0] == "dpkg":
            for header in ("opencl-c.h", "opencl-c-base.h"):
                path = Path(words[-1]) / "usr/lib/clang" / header
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(words[-2])
        return ""


def test_packages_with_what_they_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls({"python3": ["python3_3.11_arm64.deb", "libc6_1%3a2.36-9_arm64.deb"]})
    monkeypatch.setattr(verification_tools, "_call", calls)
    found = Apt(tmp_path / "apt", "arm64").unpack(["python3"], tmp_path / "root")
    assert found == {"python3": "3.11", "libc6": "1:2.36-9"}
    update, install = calls.made[:2]
    assert update[-1] == "update"
    assert {"-oAPT::Architecture=arm64", "--download-only"} <= set(install)


def test_headers_of_the_newest_clang_that_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = {f"libclang-common-{n}-dev": [f"libclang-{n}_{n}_amd64.deb"] for n in (14, 19, 22)}
    calls = Calls(packages | {"libclang-cpp19": []})
    monkeypatch.setattr(verification_tools, "_call", calls)
    (tmp_path / "into").mkdir()
    (tmp_path / "work").mkdir()
    install_opencl(tmp_path / "into", tmp_path / "work")
    headers = {path.name: path.read_text() for path in (tmp_path / "into").iterdir()}
    assert set(headers) == {"opencl-c.h", "opencl-c-base.h"}
    assert all(text.endswith("libclang-19_19_amd64.deb") for text in headers.values())


def test_no_headers_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification_tools, "_call", Calls({"libclang-common-22-dev": []}))
    with pytest.raises(BuildError, match="apt knows no libclang-common"):
        install_opencl(tmp_path, tmp_path)
