"""A plan with what its base models do untrained, where somebody asks for it.

In: an objective file and an actor. Out: its plan, with a probe of each base that can answer here. Must not know: how a probe is measured.
"""

from __future__ import annotations

from pathlib import Path

from tailorbird import planning
from tailorbird.domain.plan import Plan
from tailorbird.domain.run import Run
from tailorbird.lifecycle.climbing.prepare import offers_of, planned
from tailorbird.lifecycle.climbing.probing import probe_bases
from tailorbird.lifecycle.journal import Facts, record
from tailorbird.lifecycle.parts import Actor, Parts, Progress
from tailorbird.lifecycle.running.adapt import plan


def plan_with_probes(parts: Parts, actor: Actor, path: Path, progress: Progress) -> tuple[Run, Plan]:
    """The run and its frozen plan; bases that planning did not probe are probed now. That changes nothing of what is frozen: it is shown,
    and an event. Raises as ``plan`` does."""
    stage = plan(parts, actor, path, progress)
    frozen = planned(stage)
    able = {} if all(base.probe or not base.rungs for base in frozen.bases) else planning.probed(offers_of(stage))
    if not able:
        return stage.run, frozen
    found = probe_bases(stage, able)
    with parts.ledger.work(actor.tenant) as work:
        for label, probe in found.items():
            facts: Facts = {"base": label, "rows": probe.rows, "score": round(probe.score.value, 4)}
            record(work, "base.probed", actor.name, stage.run.id, parts.clock.now(), facts)
    bases = tuple(base.model_copy(update={"probe": base.probe or found.get(base.label)}) for base in frozen.bases)
    return stage.run, frozen.model_copy(update={"bases": bases})
