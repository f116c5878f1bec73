"""Objectives, each with its newest run and what answers for it.

In: a session. Out: a page. Must not know: how a run works.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.responses import Response

from tailorbird.console.paging import Paging
from tailorbird.console.visit import Visit
from tailorbird.domain.deployment import Alias
from tailorbird.domain.ladder import Climb, Ladder
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import Release
from tailorbird.domain.run import Run, StepState
from tailorbird.lifecycle.control import runs
from tailorbird.lifecycle.steps.stage import looks_of, number_of
from tailorbird.lifecycle.steps.story import choose_step
from tailorbird.ports.ledger import UnitOfWork

#: Objectives on a page.
ON_A_PAGE = 20


@dataclass(frozen=True)
class Line:
    """One objective. ``run`` is its newest, absent where only a public name is left; ``production`` are the releases behind that name."""

    name: str
    objective: Objective | None
    run: Run | None
    chosen: Climb | None
    alias: Alias | None
    production: tuple[Release, ...]


def show(visit: Visit) -> Response:
    """All objectives."""
    heads = visit.ask(runs.OBJECTIVES).objectives
    paging = Paging.of(visit.query, len(heads), ON_A_PAGE)
    with visit.parts.ledger.work(visit.actor.tenant, write=False) as work:
        lines = [_line(work, head) for head in paging.cut(heads)]
    return visit.page("objectives.html", lines=lines, paging=paging)


def _line(work: UnitOfWork, head: runs.Head) -> Line:
    """Read after the control plane has shown runs and aliases: what they name belongs to them."""
    run, alias = head.run, head.alias
    production = tuple(work.releases.get(target.release) for target in (alias.targets if alias else ()))
    if run is None:
        return Line(head.name, None, None, None, alias, production)
    return Line(head.name, work.records.get(Objective, run.objective), run, _chosen(work, run), alias, production)


def _chosen(work: UnitOfWork, run: Run) -> Climb | None:
    """The climb of the candidate that was chosen, once there is one."""
    done = {step.name: step.result for step in work.steps.of(run.id) if step.state is StepState.DONE and step.result}
    made = done.get(choose_step(number_of(looks_of(work, done))))
    if made is None:
        return None
    ladder = work.records.get(Ladder, made)
    return next((climb for climb in ladder.measured if climb.candidate == ladder.chosen), None)
