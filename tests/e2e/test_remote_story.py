"""The whole story from elsewhere: a server, a worker, and a command line that has nothing but keys; several labels an item."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from support.e2e import Desk, serving, support_rows, write_objective, write_rows

pytestmark = pytest.mark.slow

INTENTS = ("account_login", "order_status", "refund_missing")


class Elsewhere:
    """Commands run in a folder without a workspace, with the keys of people copied there."""

    def __init__(self, desk: Desk, server: str, folder: Path) -> None:
        self._desk, self.server, self.folder = desk, server, folder
        self._environment = {name: value for name, value in desk.environment.items() if name != "TAILORBIRD_WORKSPACE"}
        for key in (desk.workspace / "keys" / "acme").glob("*.key"):
            (folder / key.name).write_bytes(key.read_bytes())
            (folder / key.name).chmod(0o600)

    def run(self, who: str, *arguments: str) -> str:
        verb, rest = arguments[:1], arguments[1:]
        if verb[0] in ("release", "runs", "key", "audit", "identity", "models"):
            verb, rest = arguments[:2], arguments[2:]
        acting = ("--as", f"acme/{who}", "--key", str(self.folder / f"{who}.key"))
        command = [*self._desk.command, "--server", self.server, *verb, *acting, *rest]
        done = subprocess.run(command, env=self._environment, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stderr[-3000:]}"
        return done.stdout

    def json(self, who: str, *arguments: str) -> Any:
        return json.loads(self.run(who, *arguments, "--json"))


@pytest.fixture
def elsewhere(desk: Desk, tmp_path: Path) -> Iterator[Elsewhere]:
    """A server with a worker beside it, and somebody far from both."""
    folder = tmp_path / "laptop"
    folder.mkdir()
    with serving(desk) as url:
        worker = desk.start("worker", stderr=subprocess.DEVNULL)
        try:
            yield Elsewhere(desk, url, folder)
        finally:
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(30) == 0


def rows_with_several_labels() -> list[tuple[str, str]]:
    """Single messages, and pairs of them in one."""
    single = support_rows(INTENTS, 40)
    pairs = [(f"{a} {b}", f"{x} | {y}") for (a, x), (b, y) in zip(single, single[45:] + single[:45], strict=True) if x < y]
    return single + pairs


def test_adapt_approve_serve_and_take_back_without_a_workspace(desk: Desk, elsewhere: Elsewhere) -> None:
    write_rows(elsewhere.folder / "rows.csv", rows_with_several_labels())
    objective = write_objective(
        elsewhere.folder,
        task={"kind": "classify", "labels": "many", "instruction": "Name every intent of the customer message."},
        kpis=[{"metric": "micro_f1", "target": 0.02}],
        ladder=["prompt"],
    )
    ended = elsewhere.json("author", "adapt", str(objective))
    release = ended["release"]
    assert release
    shown = elsewhere.json("viewer", "release", "show", release)
    assert (shown["content"]["author"], shown["signature"]["identity"]) == ("author", "worker")
    assert "micro_f1" in elsewhere.run("viewer", "release", "show", release, "--card")
    elsewhere.run("approver", "release", "approve", release, "--reason", "evidence read")
    elsewhere.run("operator", "release", "stage", release)
    elsewhere.run("operator", "promote", release)
    secret = elsewhere.run("admin", "key", "create", "shop").strip()
    with openai.OpenAI(base_url=f"{elsewhere.server}/v1", api_key=secret, max_retries=3) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="acme/desk", messages=[{"role": "user", "content": "I cannot log in, and where is my refund?"}]
        )
    answer = json.loads(raw.text)
    assert set(answer["tailorbird"]["probabilities"]) == set(INTENTS)
    explained = elsewhere.json("viewer", "explain", raw.headers["x-tailorbird-request-id"])
    assert explained["release"]["digest"] == release
    assert elsewhere.json("operator", "watch")["signals"]
    assert "withdrawn" in elsewhere.run("operator", "rollback", "acme/desk", "--withdraw", "--reason", "drill")
    assert "intact" in elsewhere.run("viewer", "audit", "verify")
