"""SIGKILL while a model trains: nothing finished is done again, and the story still ends with a release."""

from __future__ import annotations

import signal
import sqlite3
import time
from pathlib import Path

import pytest

from support.e2e import Desk, support_rows, write_objective, write_rows

pytestmark = pytest.mark.slow


def steps(desk: Desk) -> dict[str, str]:
    """Names and states of the steps, read past the program."""
    with sqlite3.connect(desk.workspace / "tailorbird.db") as database:
        return dict(database.execute("SELECT name, state FROM steps").fetchall())


def wait_for_checkpoint(desk: Desk, seconds: float = 240) -> None:
    """Until the training step is running and has written something to go on from."""
    deadline = time.monotonic() + seconds
    while not any((desk.workspace / "runs").rglob("*.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_adapt_goes_on_after_a_kill_in_training(desk: Desk, tmp_path: Path, untaught: Path) -> None:
    write_rows(tmp_path / "rows.csv", support_rows(("refund_missing", "order_status", "account_login"), 60))
    objective = write_objective(tmp_path, base_model=f"./{untaught.name}", ladder=["lora"])
    first = desk.start("adapt", str(objective))
    wait_for_checkpoint(desk)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = steps(desk)
    assert before["plan"] == "done"
    assert [name for name, state in before.items() if state == "leased"] == ["make lora r16"]
    conclusion = desk.json("adapt", str(objective))
    assert conclusion["release"] is not None
    assert set(steps(desk).values()) == {"done"}
    events = desk.json("audit", "log", "--last", "200")
    done = [event["event"]["data"]["step"] for event in events if event["event"]["kind"] == "step.done"]
    assert len(done) == len(set(done))
    assert desk.json("audit", "verify")["problems"] == []
