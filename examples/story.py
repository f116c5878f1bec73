"""Parts shared by the example scripts: commands run and shown, the way of a release into production, a server, and a client over HTTP.

A script in a folder beside this file imports it so::

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from story import Story
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from openai import OpenAI

READY_SECONDS = 180
#: What a release in this state needs next: the command, and why.
NEXT = {
    "gated": (
        ("release", "approve", "{}", "--as", "approver", "--reason", "evidence read"),
        "a second person approves it, with their own key",
    ),
    "approved": (("release", "stage", "{}", "--as", "operator"), "an operator stages it"),
    "staged": (("promote", "{}", "--as", "operator"), "and puts it before users"),
}


def heading(text: str) -> None:
    print(f"\n━━ {text}", flush=True)


def shown(path: Path) -> str:
    """A path as a person in this folder would type it."""
    return os.path.relpath(path)


@dataclass(frozen=True)
class Answer:
    """One answer over HTTP, with what tailorbird says about it; ``passages`` are the ids of those that it was given, best first."""

    text: str
    request: str
    release: str
    referred: bool
    passages: tuple[str, ...] = ()


class Client:
    """The stock OpenAI client on a running server; ``http`` is the plain client for everything that is not OpenAI's."""

    def __init__(self, url: str, secret: str) -> None:
        self.openai = OpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0)
        self.http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {secret}"}, timeout=60)

    def close(self) -> None:
        """Closes its connections."""
        self.openai.close()
        self.http.close()

    def ask(self, alias: str, messages: str | Sequence[dict[str, str]], **options: Any) -> Answer:
        """Asks one question, or goes on with a conversation, at ``/v1/chat/completions``."""
        turns: Any = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        raw = self.openai.chat.completions.with_raw_response.create(model=alias, messages=turns, **options)
        answer = raw.parse()
        told: Any = (answer.model_extra or {}).get("tailorbird", {})
        return Answer(
            text=answer.choices[0].message.content or "",
            request=raw.headers["x-tailorbird-request-id"],
            release=raw.headers["x-tailorbird-release"],
            referred=raw.headers.get("x-tailorbird-referred") == "true",
            passages=tuple(passage["id"] for passage in told.get("passages", ())),
        )

    def feedback(self, request: str, kind: str, value: str) -> Any:
        """Says what became of an answer, as a program would: POST /api/feedback with its API key."""
        response = self.http.post("/api/feedback", json={"request": request, "kind": kind, "value": value})
        response.raise_for_status()
        return response.json()


class Story:
    """The command line on one workspace, as a person would drive it: every command is printed, and the first that fails ends the script."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace

    def environment(self) -> dict[str, str]:
        return os.environ | {"TAILORBIRD_WORKSPACE": str(self.workspace), "COLUMNS": os.environ.get("COLUMNS", "120")}

    def start(self, *arguments: str, stdout: int | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-m", "tailorbird.cli.main", *arguments], env=self.environment(), stdout=stdout, text=True)

    def run(self, *arguments: str, show: bool = True, statuses: Sequence[int] = (0,)) -> str:
        """Runs one tailorbird command; its progress goes to stderr as it comes, its stdout is printed and returned."""
        if show:
            print(f"$ tailorbird {shlex.join(arguments)}", flush=True)
        process = self.start(*arguments, stdout=subprocess.PIPE)
        output = process.communicate()[0]
        if show:
            print(output, end="", flush=True)
        if process.returncode not in statuses:
            sys.exit(f"the example stops here: tailorbird {arguments[0]} ended with status {process.returncode}")
        return output

    def json(self, *arguments: str) -> Any:
        """What a command prints with ``--json``, unshown."""
        return json.loads(self.run(*arguments, "--json", show=False))

    def key(self, name: str, *options: str) -> str:
        """The secret of a new API key, which is not printed."""
        return self.run("key", "create", name, *options, show=False).strip()

    def newest_release(self) -> dict[str, Any] | None:
        releases = self.json("release", "list")
        return releases[0] if releases else None

    def put_into_production(self, digest: str) -> None:
        """Approves, stages and promotes a release, from whatever state it is in."""
        while (state := self.json("release", "show", digest)["state"]) in NEXT:
            arguments, title = NEXT[state]
            heading(title)
            self.run(*(argument.format(digest.removeprefix("sha256:")[:12]) for argument in arguments))

    @contextmanager
    def serving(self) -> Iterator[str]:
        """A running gateway with its engine; the address of it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        print(f"$ tailorbird serve --port {port}", flush=True)
        server = self.start("serve", "--port", str(port))
        try:
            _wait_until_ready(server, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)


@contextmanager
def temporary_workspace() -> Iterator[Path]:
    """A workspace that is gone afterwards; one named by ``TAILORBIRD_WORKSPACE`` stays, and a script that is run again goes on in it."""
    named = os.environ.get("TAILORBIRD_WORKSPACE")
    if named:
        yield Path(named)
        return
    with tempfile.TemporaryDirectory(prefix="tailorbird-") as folder:
        yield Path(folder) / "workspace"


def _wait_until_ready(server: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    sys.exit(f"the example stops here: the server ended, or was not ready within {READY_SECONDS} seconds")
