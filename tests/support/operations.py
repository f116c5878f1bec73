"""A workspace as ``wiring`` opens it, but with a clock that tests set, and without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.usecases import open_workspace as a_workspace
from support.workspace_ledger import SQLITE
from tailorbird.domain.event import Event
from tailorbird.settings import save_settings
from tailorbird.usecases import Dependencies, MaintenanceSettings

TENANT = "acme"

#: Opens a workspace in a new folder; the URL of a database other than its own.
Open = Callable[..., Dependencies]


def open_workspace(folder: Path, database: str = "", **upkeep: Any) -> Dependencies:
    deps = replace(a_workspace(folder, database or SQLITE), upkeep=MaintenanceSettings(**upkeep))
    if not (folder / "settings.yaml").exists():
        save_settings(folder, {"tenant": TENANT})
    return deps


def with_upkeep(deps: Dependencies, **changes: Any) -> Dependencies:
    return replace(deps, upkeep=replace(deps.upkeep, **changes))


def add_event(deps: Dependencies, kind: str = "model.pulled") -> None:
    with deps.ledger.work(TENANT) as work:
        work.events.append([Event(kind=kind, tenant=TENANT, actor="author", subject="small", at=deps.clock.now())])
