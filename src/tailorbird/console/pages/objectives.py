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
from tailorbird.lifecycle.control import releases, runs
from tailorbird.lifecycle.story import CHOOSE
from tailorbird.ports.ledger import UnitOfWork

#: How many of the newest runs objectives are looked for in, and objectives on a page.
NEWEST_RUNS = 1000
ON_A_PAGE = 20


@dataclass(frozen=True)
class Line:
    """One objective. ``run`` is absent when it is not among the newest ones; ``production`` are the releases behind its public name."""

    name: str
    objective: Objective | None
    run: Run | None
    chosen: Climb | None
    alias: Alias | None
    production: tuple[Release, ...]


def show(visit: Visit) -> Response:
    """Objectives of the newest runs, and all that have a public name."""
    newest: dict[str, Run] = {}
    listed = visit.ask(runs.LIST, limit=NEWEST_RUNS)
    for run in listed.runs:
        newest.setdefault(run.objective_name, run)
    aliases = {alias.name: alias for alias in visit.ask(releases.ALIASES).aliases}
    names = sorted(newest.keys() | aliases.keys())
    paging = Paging.of(visit.query, len(names), ON_A_PAGE)
    with visit.parts.ledger.work(visit.actor.tenant, write=False) as work:
        lines = [_line(work, name, newest.get(name), aliases.get(name)) for name in paging.cut(names)]
    return visit.page("objectives.html", lines=lines, paging=paging, runs=listed.total, searched=NEWEST_RUNS)


def _line(work: UnitOfWork, name: str, run: Run | None, alias: Alias | None) -> Line:
    """Read after the control plane has shown runs and aliases: what they name belongs to them."""
    production = tuple(work.releases.get(target.release) for target in (alias.targets if alias else ()))
    if run is None:
        return Line(name, None, None, None, alias, production)
    return Line(name, work.records.get(Objective, run.objective), run, _chosen(work, run), alias, production)


def _chosen(work: UnitOfWork, run: Run) -> Climb | None:
    """The climb of the candidate that was chosen, once there is one."""
    made = next((step.result for step in work.steps.of(run.id) if step.name == CHOOSE and step.state is StepState.DONE), None)
    if made is None:
        return None
    ladder = work.records.get(Ladder, made)
    return next((climb for climb in ladder.climbs if climb.candidate == ladder.chosen), None)
