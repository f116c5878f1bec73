"""A training by two processes, on two nodes of a Ray cluster of one core each (``make ray``): as on one machine, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from support.e2e import Desk, support_rows, write_objective, write_rows
from support.ray_cluster import RayCluster, await_end, parent_of

pytestmark = pytest.mark.ray

INTENTS = ("refund_missing", "order_status", "account_login")


@pytest.fixture
def new(tmp_path: Path, base_model_folder: Path, untaught: Path) -> Desk:
    """A workspace in which nothing has happened, and a job beside it whose training takes a while."""
    write_rows(tmp_path / "rows.csv", support_rows(INTENTS, 60))
    reference, ladder = {"role": "reference", "vectors": False}, ["lora"]
    write_objective(tmp_path, base_model=f"./{untaught.name}", floor=reference, ladder=ladder, lora={"epochs": 12})
    desk = Desk(tmp_path / "new", base_model_folder.parent)
    with (desk.workspace / "settings.yaml").open("a", encoding="utf-8") as file:
        file.write("training_processes: 2\n")
    return desk


def copy_of(desk: Desk, name: str, **environment: str) -> Desk:
    """The same workspace, known to a release's salt by the same name."""
    copied = Desk(desk.workspace.with_name(name), None)
    shutil.copytree(desk.workspace, copied.workspace, symlinks=True)
    copied.environment |= {"OMP_NUM_THREADS": "1", "TAILORBIRD_FETCH_ENCODER": "false"} | environment
    return copied


def trained_lines(desk: Desk) -> int:
    return sum(len(file.read_text().splitlines()) for file in desk.workspace.glob("runs/*/make-lora-*/metrics.jsonl"))


def member(desk: Desk, rank: int) -> int:
    """The process that trains as ``rank``, by the log that it writes to."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            log = (folder / "fd" / "2").readlink()
            if log.name == f"member-{rank}.log" and log.is_relative_to(desk.workspace):
                return int(folder.name)
    raise AssertionError(f"nobody trains as {rank}")


def test_two_nodes_train_what_two_processes_of_one_machine_do(new: Desk, tmp_path: Path, raylets: RayCluster) -> None:
    """The node that does not lead loses its process in the middle: its part ends, too, and the two that follow go on."""
    objective = str(tmp_path / "objective.yaml")
    alone = copy_of(new, "alone").json("adapt", objective)
    desk = copy_of(new, "placed", TAILORBIRD_COMPUTE="ray", **raylets.environment)
    adapting = desk.start("adapt", objective, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while trained_lines(desk) < 6:
        assert time.monotonic() < deadline, "nothing is trained"
        assert adapting.poll() is None, adapting.communicate()
        time.sleep(0.1)
    trains = member(desk, 1)
    os.kill(parent_of(trains), signal.SIGKILL)
    await_end(trains, 10)
    out, err = adapting.communicate(timeout=400)
    assert adapting.returncode == 0, err
    assert err.count("the step is done again") == 1
    assert json.loads(out)["release"] == alone["release"]
