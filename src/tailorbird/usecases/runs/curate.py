"""Data alone: from an objective to a frozen snapshot, and no further."""

from __future__ import annotations

from pathlib import Path

from tailorbird.auth import Action
from tailorbird.domain.run import RunState
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.registry import local
from tailorbird.usecases.runs.step_runner import plan_for
from tailorbird.usecases.runs.submit import submit
from tailorbird.usecases.snapshots.snapshot_queries import SnapshotView, show_snapshot
from tailorbird.usecases.steps import transitions


@local(Action.PLAN)
def curate(deps: Dependencies, actor: Actor, path: Path, progress: Progress) -> SnapshotView:
    """Reads, cleans, splits and freezes the data of the objective at ``path``; nothing is planned or fetched. Raises as ``adapt``."""
    run = submit(deps, actor, path, RunState.PLANNING)
    context = plan_for(deps, actor, run, progress, until=transitions.SNAPSHOT)
    return show_snapshot(deps, actor, context.done[transitions.SNAPSHOT])
