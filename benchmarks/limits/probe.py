"""One workload, once, with the tailorbird that ``PYTHONPATH`` leads to: prints what it took as JSON.

In: the workload's name. Out: ``{"seconds": …}`` on stdout. Uses only what the checkouts that are compared both have: their tests' kits, and
verbs of the story.
"""

from __future__ import annotations

import csv
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Requests that are timed after those that warm up; rows of the curation; rows that are trained on.
REQUESTS, WARM, ROWS, TRAINED = 600, 100, 20_000, 240
LABELS = ("refund", "delivery", "login")


def main() -> None:
    """Runs the workload that the command line names."""
    print(json.dumps({"seconds": WORKLOADS[sys.argv[1]]()}))


def request() -> float:
    """Median seconds of a chat completion through the whole gateway, with an engine that takes no time."""
    from support.api import ASK, CHAT, ask
    from support.serving import House

    async def story(client: Any) -> list[float]:
        taken = []
        for _ in range(WARM + REQUESTS):
            started = time.perf_counter()
            answer = await client.post(CHAT, json=ASK)
            taken.append(time.perf_counter() - started)
            assert answer.status_code == 200, answer.text
        return sorted(taken[WARM:])

    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder))
        house.point("routing", house.release(1))
        taken: list[float] = ask(house, story)
        house.ledger.close()
    return taken[len(taken) // 2]


def curation() -> float:
    """Seconds from a submitted objective to its frozen snapshot, submission included."""
    from support.usecases import open_workspace, write_objective
    from support.workspace_ledger import SQLITE
    from tailorbird.domain.run import RunState
    from tailorbird.usecases import Progress
    from tailorbird.usecases.identities import act_as
    from tailorbird.usecases.runs import step_runner, submit

    with tempfile.TemporaryDirectory() as folder:
        path = write_objective(Path(folder) / "job")
        write_rows(path.parent / "rows.csv", ROWS)
        deps = open_workspace(Path(folder) / "workspace", SQLITE)
        author = act_as(deps, "acme", "author")
        started = time.perf_counter()
        run = submit.submit(deps, author, path, RunState.PLANNING)
        step_runner.plan_for(deps, author, run, Progress(), until="snapshot")
        taken = time.perf_counter() - started
        deps.ledger.close()
    return taken


def training() -> float:
    """Seconds of all steps of a run that trains an adapter of the real small model, as the record has them."""
    from support.usecases import write_objective
    from tailorbird import settings, wiring
    from tailorbird.usecases import Progress
    from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
    from tailorbird.usecases.runs import submit

    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        workspace.mkdir(mode=0o700)
        (workspace / "models").symlink_to(os.environ["TAILORBIRD_MODELS"])
        settings.save_settings(workspace, {"tenant": "acme", "fetch_encoder": False})
        path = write_objective(Path(folder) / "job", base_model="smollm2-135m", ladder=["lora"], lora={"epochs": 1}, budget={"hours": 2})
        write_rows(path.parent / "rows.csv", TRAINED)
        deps = wiring.open_dependencies(settings.load_settings(workspace, {}))
        initialise(deps, "acme", FIRST_PEOPLE)
        worked = submit.adapt(deps, act_as(deps, "acme", "author"), path, Progress())
        taken = sum(step.seconds for step in worked.steps)
        deps.ledger.close()
    return taken


def write_rows(path: Path, count: int) -> None:
    """Messages in which the label's word stands, apart from one another as real ones are."""
    drawn = random.Random(7)
    words = ["".join(drawn.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(drawn.randint(3, 9))) for _ in range(4000)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(count):
            label = LABELS[number % 3]
            writer.writerow([f"{' '.join(drawn.choices(words, k=12))} {label} {number}", label])


WORKLOADS: dict[str, Callable[[], float]] = {"request": request, "curation": curation, "training": training}

if __name__ == "__main__":
    main()
