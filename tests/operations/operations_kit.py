"""A workspace as ``wiring`` opens it, but with a clock that tests set, and without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tailorbird.domain.event import Event
from tailorbird.integrations.memory import FixedClock, MemoryEngine, MemoryModelReader, MemoryTrainer
from tailorbird.ledger import open_artifacts, open_ledger
from tailorbird.lifecycle import Parts, Upkeep
from tailorbird.lifecycle.identities.people import FIRST_PEOPLE, initialise
from tailorbird.settings import save_settings

TENANT = "acme"

#: Opens a workspace in a new folder; the URL of a database other than its own.
Open = Callable[..., Parts]


def open_workspace(folder: Path, database: str = "", **upkeep: Any) -> Parts:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "settings.yaml").exists():
        save_settings(folder, {"tenant": TENANT})
    clock = FixedClock()
    ledger = open_ledger(database or f"sqlite:///{folder / 'tailorbird.db'}", clock=clock)
    ledger.migrate()
    parts = Parts(
        ledger=ledger,
        artifacts=open_artifacts(str(folder / "artifacts"), folder / "cache"),
        clock=clock,
        workspace=folder,
        trainer=MemoryTrainer,
        engine=MemoryEngine,
        model_reader=MemoryModelReader,
        upkeep=Upkeep(**upkeep),
    )
    initialise(parts, TENANT, FIRST_PEOPLE)
    return parts


def with_upkeep(parts: Parts, **changes: Any) -> Parts:
    return replace(parts, upkeep=replace(parts.upkeep, **changes))


def add_event(parts: Parts, kind: str = "model.pulled") -> None:
    with parts.ledger.work(TENANT) as work:
        work.events.append([Event(kind=kind, tenant=TENANT, actor="author", subject="small", at=parts.clock.now())])
