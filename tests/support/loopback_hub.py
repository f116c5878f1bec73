"""A Hugging Face hub on the loopback, over a folder: the routes that the real client libraries ask for, and no more.

    FOLDER/models/OWNER/NAME/...      FOLDER/datasets/OWNER/NAME/...

Every repository has one commit, whose name is the digest of its files; ``BRANCHES`` lead to it. What was asked for is kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BRANCHES = ("main", "v1", "refs/convert/parquet")


class Repository:
    """The files of one repository, by path, and its commit."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{folder.parent.name}/{folder.name}"
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        self.commit = hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    def entries(self) -> list[dict[str, Any]]:
        folders = {str(parent) for name in self.files for parent in Path(name).parents if str(parent) != "."}
        files = [{"type": "file", "path": name, "size": len(data), "oid": _oid(data)} for name, data in self.files.items()]
        return [*files, *({"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders))]

    def info(self) -> dict[str, Any]:
        return {
            "id": self.name,
            "sha": self.commit,
            "private": False,
            "gated": "gated" in self.name,
            "disabled": False,
            "tags": ["license:apache-2.0"],
            "siblings": [_sibling(name, data) for name, data in self.files.items()],
        }


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    """Weights are what the hub calls large files, and lists with their SHA-256."""
    digest = hashlib.sha256(data).hexdigest()
    large = {"lfs": {"sha256": digest, "size": len(data), "pointerSize": 1}} if name.endswith(".safetensors") else {}
    return {"rfilename": name, "size": len(data), **large}


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


class Hub(ThreadingHTTPServer):
    """The server; ``asked`` are the paths that were asked for, ``agents`` how the clients named themselves, and
    ``tokens`` what they showed.

    Files in ``served`` come with these bytes instead of those that are listed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.agents: set[str] = set()
        self.tokens: set[str | None] = set()
        self.served: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), _Answers)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        self.server.asked.append(f"{self.command} {path}")
        self.server.tokens.add(self.headers.get("Authorization"))
        self.server.agents.add(self.headers.get("User-Agent", ""))
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "api":
            self._answer_api(parts[1:], body)
        else:
            kind, rest = ("datasets", parts[1:]) if parts[0] == "datasets" else ("models", parts)
            self._answer_file(kind, rest)

    def _answer_api(self, parts: list[str], body: bytes) -> None:
        repository = self._repository(*parts[:3]) if len(parts) > 2 else self._refuse(404, "EntryNotFound")
        if repository is None:
            return
        if len(parts) > 4 and parts[4] not in (*BRANCHES, repository.commit):
            self._refuse(404, "RevisionNotFound")
            return
        what = parts[3] if len(parts) > 3 else "info"
        if what in ("info", "revision"):
            self._send_json(repository.info())
        elif what == "tree":
            below = "/".join(parts[5:])
            self._send_json([entry for entry in repository.entries() if not below or entry["path"].startswith(f"{below}/")])
        elif what == "paths-info":
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            self._send_json([entry for entry in repository.entries() if entry["path"] in wanted])
        else:
            self._refuse(404, "EntryNotFound")

    def _answer_file(self, kind: str, parts: list[str]) -> None:
        owner, name, _, revision, *inside = parts
        repository = self._repository(kind, owner, name)
        if repository is None:
            return
        data = repository.files.get("/".join(inside))
        known = revision in (*BRANCHES, repository.commit)
        if not known or data is None:
            self._refuse(404, "EntryNotFound" if known else "RevisionNotFound")
            return
        listed, data = data, self.server.served.get(inside[-1], data)
        start, end = 0, len(data)
        if asked := self.headers.get("Range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else len(data)
        headers = {"ETag": f'"{_oid(listed)}"', "X-Repo-Commit": repository.commit, "Accept-Ranges": "bytes"}
        self._send(206 if asked else 200, data[start:end], headers)

    def _repository(self, kind: str, owner: str, name: str) -> Repository | None:
        folder = self.server.folder / kind / owner / name
        if owner == "gated":
            self._refuse(403, "GatedRepo")
            return None
        if not folder.is_dir():
            self._refuse(401, "RepoNotFound")
            return None
        return Repository(folder)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def running(folder: Path) -> Iterator[Hub]:
    """A hub over ``folder``, until the end of the ``with`` block."""
    hub = Hub(folder)
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


def ask(script: str, *arguments: str, **environment: str) -> Any:
    """What ``script`` prints last, as JSON, when it is run in a process of its own: the libraries read their settings once, at import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[1]), kept.get("PYTHONPATH", ""))))
    done = subprocess.run([sys.executable, "-c", script, *arguments], env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
