"""Drives the command line as a person would: real processes, a real model, real HTTP."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).resolve().parents[2]


class Desk:
    """One workspace and the commands run in it."""

    def __init__(self, workspace: Path, models: Path | None) -> None:
        """Without ``models`` the workspace is left to be made."""
        self.workspace = workspace
        self.environment = os.environ | {
            "TAILORBIRD_WORKSPACE": str(workspace),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "NO_COLOR": "1",
            "COLUMNS": "140",
        }
        if models is None:
            return
        self.run("init", "--tenant", "acme", "--workspace", str(workspace))
        (workspace / "models").symlink_to(models)

    command = (sys.executable, "-m", "tailorbird.cli.main")

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen([*self.command, *arguments], env=self.environment, text=True, **options)

    def call(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate()
        return process.returncode, out, err

    def run(self, *arguments: str) -> str:
        status, out, err = self.call(*arguments)
        assert status == 0, f"tailorbird {' '.join(arguments)} ended with {status}:\n{err[-3000:]}"
        return out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def refused(self, *arguments: str) -> str:
        """Runs a command that must fail cleanly: status 1, an error with a code, a hint, and no traceback."""
        status, _, err = self.call(*arguments)
        assert status == 1, err
        assert "error[" in err
        assert "hint: " in err
        assert "Traceback" not in err
        return err

    def promote(self, release: str) -> None:
        """The whole way of a gated release into production."""
        self.run("release", "approve", release, "--as", "approver", "--reason", "evidence read")
        self.run("release", "stage", release, "--as", "operator")
        self.run("promote", release, "--as", "operator")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(desk: Desk) -> Iterator[str]:
    """A running gateway with its engine; the address of it."""
    port = free_port()
    server = desk.start("serve", "--port", str(port))
    try:
        wait_ready(server, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def wait_ready(server: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError("the server was not ready within two minutes")


def write_rows(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(rows)


def write_objective(folder: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "name": "desk",
        "tenant": "acme",
        "business": {"goal": "Route messages.", "owner": "support", "risk": "minimal"},
        "task": {"kind": "classify", "instruction": "Classify the customer message into one intent."},
        "data": [{"path": "rows.csv", "source": {"origin": "tailorbird tests", "license": "Apache-2.0"}}],
        "kpis": [{"metric": "accuracy", "target": 0.05}],
        "budget": {"hours": 2},
    }
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def support_rows(intents: Sequence[str], each: int) -> list[tuple[str, str]]:
    """Synthetic messages to a support desk that words tell apart, ``each`` of every intent (Apache-2.0, written for this project)."""
    with (ROOT / "tests" / "e2e" / "support_messages.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["intent"]) for row in csv.DictReader(file) if row["text"] and row["intent"]]
    return [row for intent in intents for row in [r for r in rows if r[1] == intent][:each]]
