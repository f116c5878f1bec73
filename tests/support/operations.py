"""A workspace as ``wiring`` opens it, but with a clock that tests set, and without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.doubles import FixedClock, MemoryEngine, MemoryModelReader, MemoryTrainer
from tailorbird.auth import KeyFileSealer
from tailorbird.domain.event import Event
from tailorbird.ledger import open_artifacts, open_ledger
from tailorbird.settings import save_settings
from tailorbird.usecases import Dependencies, MaintenanceSettings
from tailorbird.usecases.identities import FIRST_PEOPLE, initialise

TENANT = "acme"

#: Opens a workspace in a new folder; the URL of a database other than its own.
Open = Callable[..., Dependencies]


def open_workspace(folder: Path, database: str = "", **upkeep: Any) -> Dependencies:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "settings.yaml").exists():
        save_settings(folder, {"tenant": TENANT})
    clock = FixedClock()
    ledger = open_ledger(database or f"sqlite:///{folder / 'tailorbird.db'}", clock=clock, sealer=KeyFileSealer(folder))
    ledger.migrate()
    deps = Dependencies(
        ledger=ledger,
        artifacts=open_artifacts(str(folder / "artifacts"), folder / "cache"),
        clock=clock,
        workspace=folder,
        trainer=MemoryTrainer,
        engine=MemoryEngine,
        model_reader=MemoryModelReader,
        upkeep=MaintenanceSettings(**upkeep),
    )
    initialise(deps, TENANT, FIRST_PEOPLE)
    return deps


def with_upkeep(deps: Dependencies, **changes: Any) -> Dependencies:
    return replace(deps, upkeep=replace(deps.upkeep, **changes))


def add_event(deps: Dependencies, kind: str = "model.pulled") -> None:
    with deps.ledger.work(TENANT) as work:
        work.events.append([Event(kind=kind, tenant=TENANT, actor="author", subject="small", at=deps.clock.now())])
