"""The Hub's API for uploads, on 127.0.0.1: repositories, LFS and commits, with their refusals."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.tasks.fake_hub import LARGE, Hub, _Handler, git_oid, serving, sha256

WRITER = "hf_writer"
READER = "hf_reader"


@dataclass
class Repository:
    """A repository: its files at the head, and the commits that made it."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[dict[str, Any]] = field(default_factory=list)

    @property
    def head(self) -> str:
        return f"{len(self.commits):040x}"


@dataclass
class WritableHub(Hub):
    """Repositories by name, large files by sha256, and what else happens to it.

    WRITER may do everything, READER only read, anyone else sees what is public.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    meanwhile: str | None = None  # a repository that somebody else changes before the next commit
    refuse: tuple[str, int] | None = None  # answer requests whose path has this part so

    def sent(self, part: str) -> int:
        """How many writing requests were made to a path that contains `part`."""
        return len(self.asked("POST", part)) + len(self.asked("PUT", part))


class _WritingHandler(_Handler):
    hub: WritableHub

    def do_POST(self) -> None:  # noqa: N802  (the base class calls it so)
        self._written()

    def do_PUT(self) -> None:  # noqa: N802  (the base class calls it so)
        self._written()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, message: str, code: str = "") -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), headers)

    @property
    def _token(self) -> str:
        return str(self.headers["Authorization"] or "").removeprefix("Bearer ")

    def _seen(self, name: str) -> Repository | None:
        """The repository, if whoever asks may see it; otherwise it has been answered."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and self._token not in (WRITER, READER)):
            self._error(401 if not self._token else 404, "Repository not found", "RepoNotFound")
            return None
        return found

    def _route(self) -> None:
        info = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)", self.path)
        tree = re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/tree/(\w+)(\?.*)?", self.path)
        found = info or tree
        repository = self._seen(found[1]) if found else self._error(404, "no such page")
        if repository is None:
            return
        if info is not None:
            self._json({"id": info[1], "sha": repository.head, "private": repository.private})
        else:
            self._json([_entry(*item) for item in sorted(repository.files.items())])

    def _written(self) -> None:
        self.hub.log.append((self.command, self.path, dict(self.headers.items())))
        body = self._body()
        refuse = self.hub.refuse
        if refuse is not None and refuse[0] in self.path:
            self._error(refuse[1], "refused for a test")
        elif self.path.startswith("/upload/"):
            self.hub.large[sha256(body)] = body
            self._send(200, b"")
        elif self._token not in (WRITER, READER):
            self._error(401, "Invalid credentials in Authorization header")
        elif self._token == READER:
            self._error(403, "this token cannot write")
        else:
            self._write(body)

    def _write(self, body: bytes) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            private = asked.get("visibility") == "private"
            self.hub.repositories[name] = Repository(private, {".gitattributes": b"*.bin lfs\n"})
            self._json({"url": f"{self.hub.endpoint}/{name}"})
            return
        batch = re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path)
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        found = batch or api
        repository = self._seen(found[1]) if found else self._error(404, "no such page")
        if repository is None or found is None:
            return
        if batch is not None:
            self._json({"objects": [self._object(one) for one in json.loads(body)["objects"]]})
        elif found[2] == "preupload":
            self._json({"files": [self._mode(one) for one in json.loads(body)["files"]]})
        else:
            self._commit(found[1], repository, [json.loads(line) for line in body.splitlines()])

    def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
        where = {"upload": {"href": f"{self.hub.endpoint}/upload/{asked['oid']}", "header": {}}}
        there = asked["oid"] in self.hub.large
        return asked if there else {**asked, "actions": where}

    def _mode(self, asked: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if asked["path"].endswith((*LARGE, ".so")) else "regular"
        return {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}

    def _commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        if self.hub.meanwhile == name:
            self.hub.meanwhile = None
            repository.commits.append({"summary": "of somebody else"})
        (header,) = (line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", repository.head) != repository.head:
            self._error(412, "A commit has happened since. Please refresh and try again.")
            return
        files = dict(repository.files)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        repository.files = files
        repository.commits.append(header)
        self._json(
            {
                "commitUrl": f"{self.hub.endpoint}/{name}/commit/{repository.head}",
                "commitOid": repository.head,
            }
        )


def _entry(name: str, data: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(data)}
    entry["oid"] = git_oid(data)
    if name.endswith((*LARGE, ".so")):
        entry["lfs"] = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    return entry


@contextmanager
def writable() -> Iterator[WritableHub]:
    with serving(WritableHub({}), _WritingHandler) as hub:
        yield hub
