"""One workload, once, with the tailorbird that ``PYTHONPATH`` leads to: prints what it took as JSON.

In: the workload's name. Out: ``{"seconds": …}`` on stdout. Uses the tests' support modules and verbs of the story, which both checkouts have:
under today's names, or under those of the commits before docs/design/faces.md.
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
from importlib import import_module
from pathlib import Path
from typing import Any

#: Requests that are timed after those that warm up; rows of the curation; rows that are trained on.
REQUESTS, WARM, ROWS, TRAINED = 600, 100, 20_000, 240
LABELS = ("refund", "delivery", "login")


#: What the workloads use, to its module today and earlier.
MODULES = {
    "api": ("support.api", "api_kit"),
    "serving": ("support.serving", "serving_kit"),
    "usecases": ("support.usecases", "lifecycle_kit"),
    "progress": ("tailorbird.usecases", "tailorbird.lifecycle"),
    "identities": ("tailorbird.usecases.identities", "tailorbird.lifecycle.identities.people"),
    "submit": ("tailorbird.usecases.runs.submit", "tailorbird.lifecycle.running.adapt"),
    "step_runner": ("tailorbird.usecases.runs.engine", "tailorbird.lifecycle.running.working"),
}


def module(name: str) -> Any:
    """The module of ``MODULES`` that this checkout has."""
    today, earlier = MODULES[name]
    try:
        return import_module(today)
    except ModuleNotFoundError as error:
        if error.name is None or not today.startswith(error.name):
            raise
        return import_module(earlier)


def main() -> None:
    """Runs the workload that the command line names."""
    print(json.dumps({"seconds": WORKLOADS[sys.argv[1]]()}))


def request() -> float:
    """Median seconds of a chat completion through the whole gateway, with an engine that takes no time."""
    api, serving = module("api"), module("serving")

    async def story(client: Any) -> list[float]:
        taken = []
        for _ in range(WARM + REQUESTS):
            started = time.perf_counter()
            answer = await client.post(api.CHAT, json=api.ASK)
            taken.append(time.perf_counter() - started)
            assert answer.status_code == 200, answer.text
        return sorted(taken[WARM:])

    with tempfile.TemporaryDirectory() as folder:
        house = serving.House(Path(folder))
        house.point("routing", house.release(1))
        taken: list[float] = api.ask(house, story)
        house.ledger.close()
    return taken[len(taken) // 2]


def curation() -> float:
    """Seconds from a submitted objective to its frozen snapshot, submission included."""
    from tailorbird.domain.run import RunState

    usecases, submit = module("usecases"), module("submit")
    with tempfile.TemporaryDirectory() as folder:
        path = usecases.write_objective(Path(folder) / "job")
        write_rows(path.parent / "rows.csv", ROWS)
        deps = usecases.open_workspace(Path(folder) / "workspace", *(["sqlite"] if hasattr(usecases, "workspace_ledger") else []))
        author = module("identities").act_as(deps, "acme", "author")
        started = time.perf_counter()
        run = submit.submit(deps, author, path, RunState.PLANNING)
        module("step_runner").plan_for(deps, author, run, module("progress").Progress(), until="snapshot")
        taken = time.perf_counter() - started
        deps.ledger.close()
    return taken


def confined() -> float:
    """``curation``, where the process that parses files runs already, as it does in a worker or a gateway."""
    from tailorbird.data.readers.formats import read_records
    from tailorbird.data.readers.data_file import DataFile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        write_rows(path, 2)
        assert len(list(read_records(DataFile("rows.csv", path, "", ".csv"), ("text", "label")))) == 2
    return curation()


def unconfined() -> float:
    """``curation``, where the process itself parses the files, without limits."""
    from tailorbird.data.readers import sources
    from tailorbird.data.readers.formats import READERS

    sources.read_records = lambda file, wanted: READERS[file.kind](file, wanted)
    return curation()


def training() -> float:
    """Seconds of all steps of a run that trains an adapter of the real small model, as the record has them."""
    from tailorbird import settings, wiring

    identities = module("identities")
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        workspace.mkdir(mode=0o700)
        (workspace / "models").symlink_to(os.environ["TAILORBIRD_MODELS"])
        known = {"fetch_encoder": False} if "fetch_encoder" in settings.Settings.model_fields else {}
        settings.save_settings(workspace, {"tenant": "acme"} | known)
        asked = {"base_model": "smollm2-135m", "ladder": ["lora"], "lora": {"epochs": 1}, "budget": {"hours": 2}}
        path = module("usecases").write_objective(Path(folder) / "job", **asked)
        write_rows(path.parent / "rows.csv", TRAINED)
        opened = wiring.open_dependencies if hasattr(wiring, "open_dependencies") else wiring.open_parts
        deps = opened(settings.load_settings(workspace, {}))
        identities.initialise(deps, "acme", identities.FIRST_PEOPLE)
        worked = module("submit").adapt(deps, identities.act_as(deps, "acme", "author"), path, module("progress").Progress())
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
WORKLOADS |= {"confined": confined, "unconfined": unconfined}

if __name__ == "__main__":
    main()
