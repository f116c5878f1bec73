"""Any two candidates or runs beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from tailorbird import evaluation
from tailorbird.auth import Action
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.evidence import CandidateComparison, Comparison, Evidence, ItemResult, Side, Unpaired
from tailorbird.domain.ladder import Climb
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import PlannedComparison
from tailorbird.domain.run import Run
from tailorbird.stats.metric_direction import MEASURES, first_compared, margin_in
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import usecase
from tailorbird.usecases.runs.run_queries import show_run

CandidateName = Annotated[
    str, Field(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9_:.-]+$", description="A run, RUN:RUNG, a candidate or a release.")
]
#: Metrics whose paired difference is told beside that of the metric by which the objective compares, in this order.
_PAIRED = tuple(name for name in MEASURES if name not in ("precision", "recall", "f1"))


@dataclass(frozen=True)
class _Found:
    """A candidate of a run with its evidence: on the sealed test where it was opened for it, and on dev."""

    run: Run
    objective: Objective
    planned: PlannedComparison | None
    climb: Climb
    test: Evidence | None

    @property
    def compared_on(self) -> str:
        """The metric by which the run compares: of its plan; in runs of before that was planned, of its first KPI."""
        return self.planned.metric if self.planned else first_compared(kpi.metric for kpi in self.objective.kpis)

    def margin(self, metric: str) -> float:
        """The margin of a metric, in its unit."""
        if self.planned and metric == self.planned.metric:
            return self.planned.margin
        stated_in = self.objective.compare_on or first_compared(kpi.metric for kpi in self.objective.kpis)
        return margin_in(self.objective.margin, metric, stated_in)

    @property
    def name(self) -> str:
        """As people name it."""
        return f"{self.run.id} {self.climb.rung.value} {self.climb.variant}"


@usecase("candidate.compare", "GET", "/api/compare", Action.SHOW_RUN)
def compare(deps: Dependencies, actor: Actor, one: CandidateName, other: CandidateName) -> CandidateComparison:
    """Compare two candidates or runs.

    Each is named by a run's id (its chosen candidate), ``RUN:RUNG`` or ``RUN:RUNG-VARIANT``, a candidate's digest, or a release's.

    Raises NotFound, and InvalidInput when one names nothing that was measured.
    """
    found = (_find(deps, actor, one), _find(deps, actor, other))
    on_test = all(each.test is not None for each in found)
    evidence = [each.test if on_test and each.test else each.climb.evidence for each in found]
    items = [_items(deps, each) for each in evidence]
    sides = [_side(each, what) for each, what in zip(found, evidence, strict=True)]
    same = {item.item for item in items[0]} == {item.item for item in items[1]}
    objective = found[0].objective
    rule = evaluation.ComparisonRule(
        metric=found[0].compared_on,
        confidence=objective.business.risk.confidence,
        seed=objective.seed,
        many=objective.task.labels == "many",
        refer_below=(evidence[0].refer_below, evidence[1].refer_below),
    )
    return CandidateComparison(
        one=sides[0],
        other=sides[1],
        compared_on=found[0].compared_on,
        paired=tuple(_paired(found[0], evidence, items, rule)) if same else (),
        unpaired=() if same else tuple(_unpaired(found[0], sides, rule)),
        remarks=tuple(_remarks(found, same, on_test)),
    )


def _find(deps: Dependencies, actor: Actor, name: str) -> _Found:
    run, _, rung = name.partition(":")
    for look in (_by_run, _by_candidate):
        found = look(deps, actor, run if not name.startswith("sha256:") else name, rung if not name.startswith("sha256:") else "")
        if found is not None:
            return found
    raise NotFound(
        f"nothing is called {name}",
        "name a run (see tailorbird runs list), RUN:RUNG, a candidate's digest or a release's",
        code="compare_missing",
    )


def _by_run(deps: Dependencies, actor: Actor, run: str, rung: str) -> _Found | None:
    try:
        told = show_run(deps, actor, run)
    except NotFound:
        return None
    chosen = told.test.candidate if told.test else told.ladder.chosen if told.ladder else None
    climbs = [*told.climbs, *([told.ladder.floor] if told.ladder and told.ladder.floor else [])]
    if rung:
        wanted = [climb for climb in climbs if rung in (climb.rung.value, f"{climb.rung.value}-{climb.variant}")]
    else:
        wanted = [climb for climb in climbs if climb.candidate == chosen] or list(told.climbs[-1:])
    if not wanted:
        known = ", ".join(f"{climb.rung.value}-{climb.variant}" for climb in climbs) or "nothing yet"
        raise InvalidInput(
            f"run {told.run.id} has not measured {rung or 'a candidate'}", f"it has measured: {known}", code="compare_unmeasured"
        )
    test = told.evidence if told.evidence and told.evidence.candidate == wanted[-1].candidate else None
    return _Found(told.run, told.objective, told.plan.comparison if told.plan else None, wanted[-1], test)


def _by_candidate(deps: Dependencies, actor: Actor, digest: str, _rung: str) -> _Found | None:
    start = digest.removeprefix("sha256:")
    with deps.ledger.work(actor.tenant, write=False) as work:
        runs = work.runs.all()
        with suppress(NotFound):
            start = work.releases.get(digest).content.candidate.removeprefix("sha256:")
    for run in runs if len(start) >= 6 else ():
        told = show_run(deps, actor, run.id)
        for climb in told.climbs:
            if climb.candidate.removeprefix("sha256:").startswith(start):
                test = told.evidence if told.evidence and told.evidence.candidate == climb.candidate else None
                return _Found(told.run, told.objective, told.plan.comparison if told.plan else None, climb, test)
    return None


def _items(deps: Dependencies, evidence: Evidence) -> tuple[ItemResult, ...]:
    return tuple(ItemResult.model_validate_json(line) for line in deps.artifacts.get(evidence.items).splitlines())


def _side(found: _Found, evidence: Evidence) -> Side:
    climb = found.climb
    # What training cost is measured beside dev, and does not rest on the split.
    safety = {name: metric for name, metric in climb.evidence.metrics.items() if name in ("retention", "memorisation")}
    return Side(
        name=found.name,
        run=found.run.id,
        candidate=climb.candidate,
        split=evidence.split.value,
        n=evidence.n,
        metrics=safety | evidence.metrics,
        trained_parameters=climb.trained_parameters,
        seconds=climb.seconds_to_make,
        peak_memory_gb=climb.peak_memory_gb,
        money=climb.money_to_make,
        process_memory_gb=climb.process_memory_gb,
    )


def _paired(
    first: _Found, evidence: list[Evidence], items: list[tuple[ItemResult, ...]], rule: evaluation.ComparisonRule
) -> Iterator[Comparison]:
    """The metric by which the objective compares comes first, whether it is defined or not; then its KPIs, then all others."""
    kpis = [kpi.metric for kpi in first.objective.kpis]
    for metric in dict.fromkeys((rule.metric, *kpis, *_PAIRED)):
        if metric == rule.metric or all(metric in each.metrics for each in evidence):
            asked = replace(rule, metric=metric, margin=first.margin(metric))
            yield evaluation.compare(evidence[0].candidate, evidence[1].candidate, items[0], items[1], asked)


def _unpaired(first: _Found, sides: list[Side], rule: evaluation.ComparisonRule) -> Iterator[Unpaired]:
    """Shares of items, whose counts are known."""
    for metric in ("accuracy", "exact_match"):
        shares = [side.metrics.get(metric) for side in sides]
        if shares[0] is not None and shares[1] is not None:
            hits = [(round(share.value * share.n), share.n) for share in shares if share is not None]
            found = evaluation.compare_shares(hits[0], hits[1], replace(rule, metric=metric, margin=first.margin(metric)))
            yield Unpaired(
                metric=metric,
                difference=found.difference,
                low=found.low,
                high=found.high,
                standing=found.standing,
                items_needed=found.items_needed,
            )


def _remarks(found: tuple[_Found, _Found], same: bool, on_test: bool) -> Iterator[str]:
    one, other = found
    if not same:
        yield "they were not measured on the same items: the difference is unpaired, and whatever tells the items apart is in it"
    yield f"{one.run.objective_name} compares on {one.compared_on}: that is the first difference; the others decide nothing"
    if one.compared_on != other.compared_on:
        yield f"the other's run compares on {other.compared_on}"
    if not on_test:
        yield "compared on dev, by which at least one of them was chosen: a winner looks better there than it is"
    if one.climb.trained_parameters and other.climb.trained_parameters:
        yield "one seed each: what another seed would change is not in the interval"
