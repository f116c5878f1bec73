"""Rungs of a climb: candidates made and measured on dev, the choice among them, and the next step after a sealed test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from tailorbird import release, rungs
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.evidence import Evidence, GateResult, Verdict
from tailorbird.domain.ladder import Candidate, Choice, Climb, Fit, Ladder, Making, Refusal
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.ports.tracker import TrackedTraining, Tracker
from tailorbird.ports.trainer import Job, ReportProgress
from tailorbird.rungs import ReusableTraining
from tailorbird.system.machine import PeakMemory
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.climb import regression_limits
from tailorbird.usecases.climb.floor import floor_climb, floor_is_rung, floor_remark, refused_floor
from tailorbird.usecases.climb.hosted_engine import AskedModels, asked_for_rung, paid
from tailorbird.usecases.climb.measurement import compared_on_shifted, costs_of, examine, remarks_of
from tailorbird.usecases.climb.metric_spec import against, comparison_of
from tailorbird.usecases.climb.provability import unpayable
from tailorbird.usecases.climb.rung_context import context_of
from tailorbird.usecases.climb.snapshot_and_plan import error_of, planned
from tailorbird.usecases.climb.training_reuse import reusable_training, stored_training
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.cancellation import ended_by, require_memory, within_memory
from tailorbird.usecases.steps.rung_approval import require_allowance
from tailorbird.usecases.steps.step_context import StepContext, StepOutcome

#: Finds a finished training by the fingerprint of a job.
FindTraining = Callable[[Digest, Job], ReusableTraining | None]


class ExperimentTracking:
    """Trackers that have not failed, told of a training that is not reused; ``tell`` hears of each that fails."""

    def __init__(self, trackers: tuple[Tracker, ...], tell: Callable[[str], None], training: TrackedTraining | None) -> None:
        self._trackers = list(trackers)
        self._tell = tell
        self._training = training
        self._begun = False
        self.report: TrainingReport | None = None

    def unless(self, find: FindTraining) -> FindTraining:
        """``find``, after which the training begins where none was found."""

        def found(fingerprint: Digest, job: Job) -> ReusableTraining | None:
            reused = find(fingerprint, job)
            if reused is None and (training := self._training) is not None:
                self._begun = True
                self.each(lambda tracker: tracker.begin(training))
            return reused

        return found

    def end(self) -> None:
        """Tells that a training which had begun is over."""
        if self._begun:
            self.each(lambda tracker: tracker.end(self.report))

    def ahead_of(self, report: ReportProgress) -> ReportProgress:
        """Shows a step, then reports it: the report may end the training."""

        def both(line: TrainingProgress) -> None:
            self.each(lambda tracker: tracker.note(line))
            report(line)

        return both

    def each(self, do: Callable[[Tracker], None]) -> None:
        """Does ``do`` with every tracker that is left."""
        for tracker in list(self._trackers):
            try:
                do(tracker)
            except TailorbirdError as error:
                self._trackers.remove(tracker)
                self._tell(f"metrics are shown no longer, the training goes on: {error.message}")


@contextmanager
def tracked(context: StepContext, rung: RungPlan) -> Iterator[ExperimentTracking]:
    """The trackers of this workspace, told of the training of ``rung``; none where it trains nothing."""
    trackers = context.deps.trackers() if rung.training else ()
    tracking = ExperimentTracking(trackers, context.progress.tell, _training(context, rung) if trackers else None)
    try:
        yield tracking
    finally:
        tracking.end()


def _training(context: StepContext, rung: RungPlan) -> TrackedTraining:
    assert rung.training is not None
    facts = {"base_model": context.base_for(rung).name, "snapshot": digest_of(context.manifest)}
    return TrackedTraining(
        experiment=f"{context.run.tenant}/{context.run.objective_name}",
        run=context.run.id,
        name=transitions.make_step(rung),
        settings=facts | _flat(plain_json(rung.training)),
    )


def _flat(settings: object, name: str = "") -> dict[str, str]:
    if not isinstance(settings, dict):
        return {name: str(settings)}
    parts = [_flat(value, f"{name}.{key}" if name else key) for key, value in settings.items()]
    return {key: value for part in parts for key, value in part.items()}


#: Steps whose mean loss tells how well the learned rows are known.
_LAST_STEPS = 5


def make_candidate(context: StepContext, rung: RungPlan) -> StepOutcome:
    """Makes a rung's candidate. Training resumes from its last checkpoint when it was interrupted, and is not done again where another run
    of the tenant has trained the same job.

    When the budget is used up the rung ends there: its checkpoint stays in the run's folder, and the climb ends with what was measured.
    When the rung fails for a reason of its own, that is evidence, and the ladder goes on above it. Raises Conflict
    (``rung_not_allowed``) for a rung that somebody must allow first.
    """
    require_allowance(context, rung)
    memory = PeakMemory()
    context, asked = _within_memory(context, memory), AskedModels()
    try:
        with tracked(context, rung) as tracking, asked_for_rung(context, rung) as asked:
            rung_context = context_of(context, rung, context.base_for(rung))
            reusable = tracking.unless(partial(reusable_training, context))
            rung_context = replace(rung_context, report=tracking.ahead_of(rung_context.report), reusable=reusable)
            rung_context = replace(
                rung_context,
                ask_hosted=asked.answers.ask if asked.answers else None,
                ask_proposer=asked.writes.ask if asked.writes else None,
            )
            made = rungs.make_candidate(rung_context)
            tracking.report = made.training
        require_memory(context.objective.budget, memory)
    except Exception as error:
        if (ended := ended_by(error)) is None:
            raise
        return _ended(rung, paid(ended, asked))
    origin = made.trained.reused.origin if made.trained and made.trained.reused else None
    making = Making(
        candidate=digest_of(made.candidate),
        training=digest_of(made.training) if made.training else None,
        seconds=made.seconds,
        peak_memory_gb=made.peak_memory_gb,
        process_memory_gb=max(memory.gib, made.training.process_memory_gb if made.training and origin is None else 0.0),
        reused=origin,
        search=digest_of(made.search) if made.search else None,
        scope=made.scope,
        **costs_of(context, made.seconds),
    )
    making = paid(making, asked)

    def keep(work: UnitOfWork) -> None:
        work.records.put(made.candidate)
        if made.search is not None:
            work.records.put(made.search)
        if made.training is None:
            return
        work.records.put(made.training)
        if (stored := stored_training(context, rung, made, making)) is not None:
            work.records.put(stored)
        if origin is None and (error := error_of(context, rung, made.training)) is not None:
            work.records.put(error)

    facts: Facts = {"rung": rung.rung.value, "variant": rung.variant, "trained_parameters": made.candidate.trained_parameters}
    return StepOutcome(making, facts | ({"reused_from": origin.run} if origin else {}), keep)


def _ended(rung: RungPlan, ended: Making) -> StepOutcome:
    """What a rung leaves that ended before it was measured."""
    facts: Facts = {"rung": rung.rung.value, "variant": rung.variant, "stopped": ended.stopped}
    return StepOutcome(ended, facts)


def measure_candidate(context: StepContext, rung: RungPlan) -> StepOutcome:
    """Measures a candidate on dev, compares it with the rung below on the same items, and decides whether to go on.

    A candidate that cannot be measured for a reason of its own is evidence, as one that cannot be made.
    """
    making = context.result(Making, transitions.make_step(rung))
    assert making.candidate is not None
    candidate, memory = context.record(Candidate, making.candidate), PeakMemory()
    context = _within_memory(context, memory)
    try:
        evidence = _with_limits(context, candidate, making, examine(context, candidate, Split.DEV, trial=making.scope))
        require_memory(context.objective.budget, memory)
    except Exception as error:
        if (ended := ended_by(error)) is None:
            raise
        return _ended(rung, ended.model_copy(update={"money": context.payments.paid if context.payments else 0.0}))
    highest = max(making.process_memory_gb, memory.gib)
    return _climbed(context, rung, making.model_copy(update={"process_memory_gb": highest}), evidence)


def _within_memory(context: StepContext, memory: PeakMemory) -> StepContext:
    """The context, whose progress ends the step where the process takes more memory than the objective's budget."""
    return replace(context, progress=within_memory(context.progress, context.objective.budget, memory))


def _climbed(context: StepContext, rung: RungPlan, making: Making, evidence: Evidence) -> StepOutcome:
    """The verdict on a measured rung, and what to do after it."""
    plan = planned(context)
    candidate = context.record(Candidate, evidence.candidate)
    gate = release.apply_gate(release.GateInputs(objective=context.objective, evidence=evidence, look=1))
    measured = Climb(
        rung=rung.rung,
        candidate=digest_of(candidate),
        variant=rung.variant,
        trained_parameters=candidate.trained_parameters,
        evidence=evidence,
        gate=gate,
        against_below=against(context, evidence, below.evidence) if (below := _last_climb(context)) else None,
        choice=Choice.CLIMB,
        reason="",
        fit=_fit_of(context, making),
        seconds=making.seconds,
        peak_memory_gb=making.peak_memory_gb,
        money=making.money + (evidence.hosted.money if evidence.hosted else 0.0),
        energy_kwh=making.energy_kwh,
        process_memory_gb=making.process_memory_gb,
        reused=making.reused,
        search=making.search,
    )
    context.progress.tell(f"{rung.rung.value} {rung.variant} on dev: {gate.verdict.value}: {gate.reason}")
    hopeless = transitions.passed_over(context.objective, plan, (*context.climbs, measured))
    tried = (
        {transitions.named(rung)}
        | {transitions.named(each) for each in context.climbs}
        | {transitions.named(each) for each in context.failed}
    )
    following = transitions.above(plan, tried, hopeless)
    why_not = hopeless.get(transitions.named(following), "") if following else ""
    told = "; ".join((gate.reason, *remarks_of(context, making, evidence)))
    choice, reason = transitions.decide(context.objective, following, transitions.RungVerdict(gate.verdict, told, context.spent, why_not))
    climb = measured.model_copy(update={"choice": choice, "reason": reason})

    def keep(work: UnitOfWork) -> None:
        work.records.put(evidence)
        work.records.put(gate)

    facts: Facts = {"rung": rung.rung.value, "variant": rung.variant, "verdict": gate.verdict.value, "choice": choice.value}
    return StepOutcome(climb, facts, keep)


def _with_limits(context: StepContext, candidate: Candidate, making: Making, evidence: Evidence) -> Evidence:
    """What training cost is measured only where nothing fails already."""
    asked = regression_limits.asked_for(context)
    if not asked:
        return evidence
    so_far = release.apply_gate(release.GateInputs(objective=context.objective, evidence=evidence, look=1))
    if so_far.verdict is Verdict.FAIL:
        return regression_limits.put_off(evidence, asked)
    return regression_limits.with_safety(context, candidate, making.training, evidence)


def _fit_of(context: StepContext, making: Making) -> Fit | None:
    """How far a rung's training got; None where nothing was trained."""
    if making.training is None:
        return None
    report = context.record(TrainingReport, making.training)
    last = [line.loss for line in report.history if line.step][-_LAST_STEPS:]
    return Fit(learned=sum(last) / len(last), held_out=report.best_held_out_loss) if last else None


def choose(context: StepContext) -> StepOutcome:
    """Chooses the candidate that goes on to the sealed test, and closes the record of the climb."""
    plan = planned(context)
    floor = floor_climb(context) if transitions.FLOOR in context.done else None
    is_rung = floor_is_rung(context)
    unconfirmed = tuple(look.candidate for look in context.looks)
    measured = (floor, *context.climbs) if floor and is_rung else context.climbs
    unpaid = unpayable(context, [climb for climb in measured if climb.candidate not in unconfirmed])
    eligible = [climb for climb in measured if climb.candidate not in {*unconfirmed, *unpaid}]
    chosen, reason = transitions.choose(
        eligible, lambda upper, lower: against(context, upper.evidence, lower.evidence), context.objective.expected_traffic
    )
    if unconfirmed:
        reason = transitions.after_looks(chosen, reason, [climb for climb in measured if climb.candidate in unconfirmed])
    ladder = Ladder(
        floor=floor,
        climbs=context.climbs,
        refused=refused_floor(plan)
        + _not_climbed(context, tuple(rung for rung in plan.rungs if transitions.measure_step(rung) not in context.done))
        + plan.left_out,
        chosen=chosen.candidate if chosen else None,
        reason="; ".join((*([reason] if chosen or not unpaid else []), *unpaid.values())) + floor_remark(context, chosen),
        floor_is_rung=is_rung,
        on_shifted=compared_on_shifted(context, measured),
        compared_on=comparison_of(context).metric,
        unconfirmed=unconfirmed,
    )
    return StepOutcome(ladder, {"chosen": ladder.chosen, "climbed": len(ladder.climbs)})


def after_look(context: StepContext, looked: Climb, evidence: Evidence, gate: GateResult) -> tuple[Choice, str]:
    """What to do after the sealed test did not confirm ``looked``, and why: look at another candidate that passes on dev, climb on, or end.

    ``evidence`` and ``gate`` are the test's. The next look is paid for from the error budget of the objective (decision 0059).
    """
    if unprovable := release.unprovable_next(release.GateInputs(objective=context.objective, evidence=evidence, look=gate.look)):
        return Choice.STOP, f"{gate.reason}; {unprovable}"
    seen = {looked.candidate, *(look.candidate for look in context.looks)}
    measured = (*([floor_climb(context)] if floor_is_rung(context) else []), *context.climbs)
    others = [climb for climb in measured if climb.candidate not in seen and climb.gate.verdict is Verdict.PASS]
    if others:
        return Choice.LOOK, f"{gate.reason}; {transitions.named(others[0])} passes on dev too"
    on_test = {"evidence": evidence, "gate": gate}
    climbs = [climb.model_copy(update=on_test) if climb.candidate == looked.candidate else climb for climb in context.climbs]
    hopeless = transitions.passed_over(context.objective, planned(context), climbs)
    tried = {transitions.named(each) for each in climbs} | {transitions.named(each) for each in context.failed}
    following = transitions.above(planned(context), tried, hopeless)
    why_not = hopeless.get(transitions.named(following), "") if following else ""
    return transitions.decide(context.objective, following, transitions.RungVerdict(gate.verdict, gate.reason, context.spent, why_not))


def _not_climbed(context: StepContext, left: tuple[RungPlan, ...]) -> tuple[Refusal, ...]:
    """The planned rungs that have no evidence, each with the reason."""
    last = _last_climb(context)
    why = "the rung below passes" if last is not None and last.choice is Choice.STOP else "the budget does not allow it"
    if last is not None and last.choice is Choice.REFUSE:
        why = last.reason.rpartition("; ")[2]
    hopeless = transitions.passed_over(context.objective, planned(context), context.climbs)
    reasons = {rung: hopeless.get(transitions.named(rung), why) for rung in left}
    failed = context.failed
    reasons |= {rung: f"failed while it was being {reason}" for rung, reason in failed.items()}
    if context.stopped is not None:
        rung, reason = context.stopped
        reasons[rung] = f"ended while it was being {reason}"
    remedies = _budget_remedies(context, last, [rung for rung in left if transitions.named(rung) not in hopeless and rung not in failed])
    return tuple(
        Refusal(rung=rung.rung, variant=rung.variant, reason=reason, failed=rung in failed, remedy=remedies.get(rung, ""))
        for rung, reason in reasons.items()
    )


def _budget_remedies(context: StepContext, last: Climb | None, left: Sequence[RungPlan]) -> dict[RungPlan, str]:
    """For the next of the rungs that may help, where the climb ended because the budget does not reach for it."""
    decided = [*([last.choice] if last else []), *(look.choice for look in context.looks[-1:])]
    if not left or (decided and all(choice is Choice.STOP for choice in decided)):
        return {}
    return {left[0]: transitions.budget_remedy(context.objective.budget, left[0], context.spent)}


def _last_climb(context: StepContext) -> Climb | None:
    """The highest rung that was climbed."""
    if context.climbs:
        return context.climbs[-1]
    return floor_climb(context) if floor_is_rung(context) else None
