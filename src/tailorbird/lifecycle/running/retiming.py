"""Timing a machine's training steps anew, where somebody asks for it.

In: an objective file and an actor. Out: its plan, made anew from steps timed now. Must not know: how steps are timed.
"""

from __future__ import annotations

from pathlib import Path

from tailorbird.access import Action
from tailorbird.domain.calibration import Retiming
from tailorbird.domain.run import RunState
from tailorbird.lifecycle.climbing.calibrating import machine_name
from tailorbird.lifecycle.journal import permit, record
from tailorbird.lifecycle.parts import Actor, Parts, Progress
from tailorbird.lifecycle.running.adapt import submit
from tailorbird.lifecycle.running.working import plan_for
from tailorbird.lifecycle.steps import story
from tailorbird.lifecycle.steps.stage import Stage


def plan_retimed(parts: Parts, actor: Actor, path: Path, progress: Progress) -> Stage:
    """Plans by nothing that was timed on this machine before. A plan that a climb has begun to follow stays: the next one is timed anew.

    Raises as ``plan`` does.
    """
    permit(parts, actor, Action.PLAN, path.name)
    run = submit(parts, actor, path, RunState.PLANNING)
    machine, now = machine_name(parts.trainer().measure_machine()), parts.clock.now()
    with parts.ledger.work(run.tenant) as work:
        planned = any(step.name == story.PLAN and step.result for step in work.steps.of(run.id))
        again = bool(work.steps.retry(run.id, done=story.PLAN))
        work.records.put(Retiming(machine=machine, at=now))
        record(work, "plan.retimed", actor.name, run.id, now, {"replanned": again})
    if planned and not again:
        progress.tell(
            f"run {run.id} follows its plan already, which stays; what was timed here is forgotten, and the next plan times it anew"
        )
    return plan_for(parts, actor, run, progress)
