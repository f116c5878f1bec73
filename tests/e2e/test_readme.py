"""The commands of the README, on data of one's own, in the order in which they stand there."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from support.e2e import ROOT, Desk, free_port, support_rows, wait_ready, write_rows

pytestmark = pytest.mark.jobs

#: What a person is asked on a terminal.
SAID = ("--origin", "our desk", "--license", "proprietary, our own", "--consent", "terms of service")


def commands() -> list[list[str]]:
    block = (ROOT / "README.md").read_text().split("## Use it on your own data\n\n```\n")[1].split("```")[0]
    return [line.partition("#")[0].split()[1:] for line in block.splitlines() if line.startswith("tailorbird ")]


@pytest.mark.usefixtures("encoder_folder")
def test_the_commands_work_in_the_order_they_stand(tmp_path: Path, base_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILORBIRD_MODEL_CACHE", str(base_model_folder.parent))
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "messages.csv", support_rows(("account_login", "order_status", "refund_missing"), 90))
    desk = Desk(tmp_path / ".tailorbird", None)
    release, said = "", ""
    assert [words[0] for words in commands()][:4] == ["init", "init", "plan", "adapt"]
    for words in commands():
        arguments = [{"DIGEST": release, "acme/NAME": "acme/messages"}.get(word, word) for word in words]
        if words[0] == "serve":
            port = free_port()
            server = desk.start(*arguments, "--port", str(port))
            try:
                wait_ready(server, port)
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(30)
            continue
        said = desk.run(*arguments, *(SAID if "--from" in words else ()))
        if "--from" in words:  # the value that is asked for is a person's to write: here one that the floor reaches
            objective = tmp_path / "objective.yaml"
            objective.write_text(re.sub(r"target: 0\.\d+", "target: 0.50", objective.read_text()))
        if words[0] == "adapt":
            release = re.findall(r"release ([0-9a-f]{12}) is signed and gated", said)[0]
    assert "messages" in said
