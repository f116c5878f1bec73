"""Runs as people see them: listed, shown, compared, cancelled, and rungs allowed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from tailorbird.domain.evidence import (
    Breakdown,
    CandidateComparison,
    Comparison,
    Evidence,
    GateResult,
    ItemResult,
    Memorisation,
    Retention,
    Side,
)
from tailorbird.domain.ladder import Allowance, Climb, Conclusion, Ladder, RungKind, SealedTest
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan, PlannedComparison
from tailorbird.domain.run import (
    CONCLUDE,
    FINISHED,
    SNAPSHOT,
    Outlook,
    Run,
    RunState,
    Step,
    StepState,
    TrainingOrigin,
)
from tailorbird.domain.value import Digest, Value
from tailorbird.evaluation import comparison
from tailorbird.evaluation.comparison import ComparisonRule
from tailorbird.evaluation.metrics import CATALOGUE, first_compared, margin_in
from tailorbird.release import REPEATED, EndedClimb, remedies
from tailorbird.reporting.documents import EvidenceFacts
from tailorbird.usecases import label_review
from tailorbird.usecases.anchored_rows import anchored_steps
from tailorbird.usecases.audit_events import permit, record, remark
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.maintenance.health import approval_remarks
from tailorbird.usecases.registry import PageSize, RunId, Skip, usecase
from tailorbird.usecases.runs import transitions
from tailorbird.usecases.runs.record import StoredRun, allowances_of, refused_floor

V = TypeVar("V", bound=Value)


class RunReport(Value):
    """What is not there yet is None. ``climbs`` are the rungs measured so far, ``looks`` those at the sealed test; ``test`` is the last of
    them, ``gate`` and ``evidence`` are its own. ``remedies`` are sentences on what could lead to a release where the run ended without.
    ``reused`` tells, by step, whose training was reused instead of training again."""

    run: Run
    steps: tuple[Step, ...]
    objective: Objective
    manifest: SnapshotManifest | None = None
    base: BaseModelRef | None = None
    plan: Plan | None = None
    climbs: tuple[Climb, ...] = ()
    ladder: Ladder | None = None
    looks: tuple[SealedTest, ...] = ()
    test: SealedTest | None = None
    gate: GateResult | None = None
    evidence: Evidence | None = None
    conclusion: Conclusion | None = None
    remedies: tuple[str, ...] = ()
    reused: dict[str, TrainingOrigin] = Field(default_factory=dict)


class RunPage(Value):
    """Some of the tenant's runs, newest first, and how many there are."""

    runs: tuple[Run, ...]
    total: int


class ObjectiveHead(Value):
    """What an objective has come to: its newest run, and its public name, where there are any."""

    name: str
    run: Run | None
    alias: Alias | None


class ObjectiveList(Value):
    """The tenant's objectives: all that were run for or have a public name, by name."""

    objectives: tuple[ObjectiveHead, ...]


@usecase("run.list", "GET", "/api/runs", Action.SHOW_RUN)
def list_runs(deps: Dependencies, actor: Actor, limit: PageSize = 50, skip: Skip = 0) -> RunPage:
    """List runs, newest first."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return RunPage(runs=work.runs.latest(limit, skip), total=work.runs.count())


@usecase("objective.list", "GET", "/api/objectives", Action.SHOW_RUN)
def list_objectives(deps: Dependencies, actor: Actor) -> ObjectiveList:
    """List objectives, each with its newest run and its public name."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        newest = {run.objective_name: run for run in work.runs.newest_by_objective()}
        aliases = {alias.name: alias for alias in work.aliases.all()}
    names = sorted(newest.keys() | aliases.keys())
    return ObjectiveList(objectives=tuple(ObjectiveHead(name=name, run=newest.get(name), alias=aliases.get(name)) for name in names))


@usecase("run.show", "GET", "/api/runs/{run}", Action.SHOW_RUN)
def show_run(deps: Dependencies, actor: Actor, run: RunId) -> RunReport:
    """Show a run with all it led to so far.

    Raises NotFound.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = work.runs.get(run)
        (steps,) = anchored_steps(work, found)
        stored = StoredRun(work, found, steps)
        test = stored.looks[-1] if stored.looks else None
        report = RunReport(
            run=found,
            steps=steps,
            objective=stored.objective,
            manifest=stored.result_if_done(SnapshotManifest, SNAPSHOT),
            base=stored.base if stored.plan else None,
            plan=stored.plan,
            climbs=stored.climbs,
            ladder=stored.ladder,
            looks=stored.looks,
            test=test,
            gate=stored.record(GateResult, test.gate) if test else None,
            evidence=stored.record(Evidence, test.evidence) if test else None,
            conclusion=stored.result_if_done(Conclusion, CONCLUDE),
            reused={transitions.make_step(rung): making.reused for rung, making in stored.makings.items() if making.reused},
        )
    return report.model_copy(update={"remedies": _remedies(report)})


def _remedies(report: RunReport) -> tuple[str, ...]:
    """What could lead to a release, where the run ended without one."""
    ladder, conclusion, manifest = report.ladder, report.conclusion, report.manifest
    if ladder is None or manifest is None or conclusion is None or conclusion.release is not None:
        return ()
    again = tuple(f"{each.sentence}; once that is mended, {REPEATED}" for each in ladder.refused if each.failed)
    again += tuple(each.remedy for each in ladder.refused if each.remedy)
    if not ladder.measured:
        return again
    rungs = ladder.measured if ladder.floor_is_rung or not ladder.climbs else ladder.climbs
    tested = next((climb for climb in ladder.measured if report.test and climb.candidate == report.test.candidate), None)
    ended = EndedClimb(report.objective, tested or transitions.closest(rungs), manifest.counts)
    if tested and report.test and report.evidence and report.gate:
        ended = replace(ended, test=(report.evidence, report.gate), looks=report.test.look)
    return (*again, *remedies(ended))


#: States in which workers take steps of a run.
OPEN = (RunState.PLANNING, RunState.ACTIVE)


class RunStatus(Value):
    """A run, its step in hand, and what the plan expects yet; how many steps are done, and took how many seconds. Without
    ``step``, or with one whose lease has run out, it waits for a worker."""

    run: Run
    step: Step | None
    done: int
    seconds: float
    working: bool
    outlook: Outlook = Outlook()


@usecase("run.status", "GET", "/api/runs/{run}/status", Action.SHOW_RUN)
def show_status(deps: Dependencies, actor: Actor, run: RunId) -> RunStatus:
    """Show how far a run is.

    Raises NotFound.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = work.runs.get(run)
        steps = work.steps.of(found.id)
        step = next((step for step in steps if step.state is not StepState.DONE), None)
        held = step is not None and step.state is StepState.LEASED and step.lease_until is not None and step.lease_until > deps.clock.now()
        stored = StoredRun(work, found, tuple(step for step in steps if step.state is StepState.DONE))
        expected = transitions.outlook(stored.plan, step.name, stored.done) if step is not None else Outlook()
        spent = sum(step.seconds for step in stored.steps)
        return RunStatus(run=found, step=step, done=len(stored.steps), seconds=spent, working=held, outlook=expected)


@usecase("run.cancel", "POST", "/api/runs/{run}/cancel", Action.CANCEL_RUN)
def cancel_run(deps: Dependencies, actor: Actor, run: RunId) -> Run:
    """Cancel a run; what is finished stays.

    Its step ends within a few seconds. Raises NotFound, Conflict (it has ended).
    """
    with deps.ledger.work(actor.tenant) as work:
        found = work.runs.get(run)
        if found.state in (*FINISHED, RunState.CANCELLED):
            raise Conflict(f"run {found.id} is over already: {found.state.word}", "there is nothing to cancel", code="run_ended")
        work.runs.set_state(found.id, RunState.CANCELLED)
        record(work, "run.cancelled", actor.name, found.id, deps.clock.now(), {"objective": found.objective_name})
        return work.runs.get(found.id)


@usecase("run.evidence", "GET", "/api/runs/{run}/evidence", Action.SHOW_RUN)
def show_evidence(deps: Dependencies, actor: Actor, run: RunId) -> EvidenceFacts:
    """Show the grounds of a run's decision.

    As far as the run has come. Raises NotFound, Corrupt.
    """
    told = _with_ladder(deps, show_run(deps, actor, run))
    shown = _shown(told)
    evidence = told.evidence or (shown.evidence if shown else None)
    release = told.conclusion.release if told.conclusion else None
    with deps.ledger.work(actor.tenant, write=False) as work:
        remarks, allowances = approval_remarks(deps, work), allowances_of(work, told.run.id)
    return EvidenceFacts(
        run=told.run.id,
        objective=told.objective,
        plan=told.plan,
        ladder=told.ladder,
        gate=told.gate or (shown.gate if shown else None),
        evidence=evidence,
        sealed=told.gate is not None,
        judged=transitions.named(shown) if shown else "",
        remedies=told.remedies,
        breakdown=_kept(deps, Breakdown, evidence.breakdown if evidence else None),
        retention=_kept(deps, Retention, evidence.retention if evidence else None),
        memorisation=_kept(deps, Memorisation, evidence.memorisation if evidence else None),
        review=label_review.show_review(deps, actor, release).result if release else None,
        release=release,
        reason=told.conclusion.reason if told.conclusion else "",
        approval_remarks=remarks,
        allowances=allowances,
    )


def _with_ladder(deps: Dependencies, told: RunReport) -> RunReport:
    """The run with the ladder as far as it has been climbed, where it waits or goes on."""
    if told.ladder is not None or told.plan is None:
        return told
    with deps.ledger.work(told.run.tenant, write=False) as work:
        floor = StoredRun(work, told.run, told.steps).floor
    if not (told.climbs or floor):
        return told
    waits = next((step.message for step in reversed(told.steps) if step.error and step.message), "the climb goes on")
    ladder = Ladder(
        floor=floor,
        climbs=told.climbs,
        refused=(*refused_floor(told.plan), *told.plan.left_out),
        chosen=None,
        reason=f"none yet: {waits}",
        floor_is_rung=transitions.floor_is_rung(told.objective, told.plan),
        compared_on=told.plan.comparison.metric,
    )
    return told.model_copy(update={"ladder": ladder})


def _shown(told: RunReport) -> Climb | None:
    """The climb that the page is about: the one that was looked at on the sealed test, else the chosen one, else the closest to passing."""
    chosen = told.test.candidate if told.test else told.ladder.chosen if told.ladder else None
    measured = told.ladder.measured if told.ladder else told.climbs
    return next((climb for climb in measured if climb.candidate == chosen), transitions.closest(measured) if measured else None)


def _kept(deps: Dependencies, kind: type[V], digest: Digest | None) -> V | None:
    return None if digest is None else kind.model_validate_json(deps.artifacts.get(digest))


CandidateName = Annotated[
    str, Field(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9_:.-]+$", description="A run, RUN:RUNG, a candidate or a release.")
]
#: Metrics whose paired difference is told beside that of the metric by which the objective compares, in this order.
_PAIRED = tuple(name for name, spec in CATALOGUE.items() if spec.compared and not spec.labelled)


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
    rule = ComparisonRule(
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
    if len(wanted) != 1:
        what = f"measured {rung} more than once" if wanted else f"not measured {rung or 'a candidate'}"
        known = ", ".join(f"{climb.rung.value}-{climb.variant}" for climb in wanted or climbs) or "nothing yet"
        raise InvalidInput(f"run {told.run.id} has {what}", f"it has measured: {known}")
    test = told.evidence if told.evidence and told.evidence.candidate == wanted[0].candidate else None
    return _Found(told.run, told.objective, told.plan.comparison if told.plan else None, wanted[0], test)


def _by_candidate(deps: Dependencies, actor: Actor, digest: str, _rung: str) -> _Found | None:
    start, found = digest.removeprefix("sha256:"), dict[Digest, tuple[str, Climb]]()
    with deps.ledger.work(actor.tenant, write=False) as work:
        runs = work.runs.all()
        with suppress(NotFound):
            start = work.releases.get(digest).content.candidate.removeprefix("sha256:")
        for run in runs if len(start) >= 6 else ():
            (steps,) = anchored_steps(work, run)
            stored = StoredRun(work, run, steps)
            for climb in (*stored.climbs, *([stored.floor] if stored.floor else [])):
                if climb.candidate.removeprefix("sha256:").startswith(start):
                    found.setdefault(climb.candidate, (run.id, climb))
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} candidates begin with {start}", "name more of the digest")
    for candidate, (run_id, climb) in found.items():
        told = show_run(deps, actor, run_id)
        test = told.evidence if told.evidence and told.evidence.candidate == candidate else None
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


def _paired(first: _Found, evidence: list[Evidence], items: list[tuple[ItemResult, ...]], rule: ComparisonRule) -> Iterator[Comparison]:
    """The metric by which the objective compares comes first, whether it is defined or not; then its KPIs, then all others."""
    kpis = [kpi.metric for kpi in first.objective.kpis]
    for metric in dict.fromkeys((rule.metric, *kpis, *_PAIRED)):
        if metric == rule.metric or all(metric in each.metrics for each in evidence):
            asked = replace(rule, metric=metric, margin=first.margin(metric))
            yield comparison.compare(evidence[0].candidate, evidence[1].candidate, items[0], items[1], asked)


def _remarks(found: tuple[_Found, _Found], same: bool, on_test: bool) -> Iterator[str]:
    one, other = found
    if not same:
        yield "they were not measured on the same items: their values stand side by side, and no difference of them is proven"
    yield f"{one.run.objective_name} compares on {one.compared_on}: that is the first difference; the others decide nothing"
    if one.compared_on != other.compared_on:
        yield f"the other's run compares on {other.compared_on}"
    if not on_test:
        yield "compared on dev, by which at least one of them was chosen: a winner looks better there than it is"
    if one.climb.trained_parameters and other.climb.trained_parameters:
        yield "one seed each: what another seed would change is not in the interval"


@usecase("run.allow", "POST", "/api/runs/{run}/allow", Action.ALLOW_RUNG)
def allow(deps: Dependencies, actor: Actor, run: RunId, rung: RungKind, reason: Annotated[str, Field(max_length=2000)] = "") -> Allowance:
    """Allow a rung that needs leave: all weights, where the risk is high.

    Raises NotFound, Forbidden (no decider, or the author of the run).
    """
    permit(deps, actor, Action.ALLOW_RUNG, run)
    with deps.ledger.work(actor.tenant) as work:
        found = work.runs.get(run)
        if found.created_by == actor.name:
            raise Forbidden(f"{actor.name} submitted run {found.id} and cannot allow it", "let somebody else decide")
        allowance = Allowance(run=found.id, rung=rung, by=actor.name, reason=reason)
        work.records.put(allowance)
        record(work, "rung.allowed", actor.name, found.id, deps.clock.now(), {"rung": rung.value, "reason": remark(work, reason)})
    return allowance
