"""Data alone: from an objective to a frozen snapshot, and no further.

In: an objective file and an actor. Out: the snapshot's digest and manifest. Must not know: how rows are read (``data/``). The run it leaves
is the one that ``plan`` and ``adapt`` take up.
"""

from __future__ import annotations

from pathlib import Path

from tailorbird.access import Action
from tailorbird.domain.run import RunState
from tailorbird.lifecycle.data.looking import SnapshotView, show
from tailorbird.lifecycle.journal import permit
from tailorbird.lifecycle.parts import Actor, Parts, Progress
from tailorbird.lifecycle.running.adapt import submit
from tailorbird.lifecycle.running.working import plan_for
from tailorbird.lifecycle.steps import story


def curate(parts: Parts, actor: Actor, path: Path, progress: Progress) -> SnapshotView:
    """Reads, cleans, splits and freezes the data of the objective at ``path``; nothing is planned or fetched. Raises as ``adapt``."""
    permit(parts, actor, Action.PLAN, path.name)
    run = submit(parts, actor, path, RunState.PLANNING)
    stage = plan_for(parts, actor, run, progress, until=story.SNAPSHOT)
    return show(parts, actor.tenant, stage.done[story.SNAPSHOT])
