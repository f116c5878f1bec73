"""Objectives, each with its newest run and what answers for it."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.responses import Response

from tailorbird.console.rendering import PageContext, Paging
from tailorbird.domain.deployment import Alias
from tailorbird.domain.ladder import Climb, Ladder
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import Release
from tailorbird.domain.run import Run, results_of
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.runs.run_queries import ObjectiveHead, list_objectives
from tailorbird.usecases.steps.step_context import looks_of, number_of
from tailorbird.usecases.steps.transitions import choose_step

#: Objectives on a page.
ON_A_PAGE = 20


@dataclass(frozen=True)
class ObjectiveLine:
    """One objective. ``run`` is its newest, absent where only a public name is left; ``production`` are the releases behind that name."""

    name: str
    objective: Objective | None
    run: Run | None
    chosen: Climb | None
    alias: Alias | None
    production: tuple[Release, ...]


def show(visit: PageContext) -> Response:
    """All objectives."""
    heads = visit.ask(list_objectives).objectives
    paging = Paging.of(visit.query, len(heads), ON_A_PAGE)
    with visit.deps.ledger.work(visit.actor.tenant, write=False) as work:
        lines = [_line(work, head) for head in paging.cut(heads)]
    return visit.page("objectives.html", lines=lines, paging=paging)


def _line(work: UnitOfWork, head: ObjectiveHead) -> ObjectiveLine:
    """Read after the control plane has shown runs and aliases: what they name belongs to them."""
    run, alias = head.run, head.alias
    production = tuple(work.releases.get(target.release) for target in (alias.targets if alias else ()))
    if run is None:
        return ObjectiveLine(head.name, None, None, None, alias, production)
    return ObjectiveLine(head.name, work.records.get(Objective, run.objective), run, _chosen(work, run), alias, production)


def _chosen(work: UnitOfWork, run: Run) -> Climb | None:
    """The climb of the candidate that was chosen, once there is one."""
    done = results_of(work.steps.of(run.id))
    made = done.get(choose_step(number_of(looks_of(work, done))))
    if made is None:
        return None
    ladder = work.records.get(Ladder, made)
    return next((climb for climb in ladder.measured if climb.candidate == ladder.chosen), None)
