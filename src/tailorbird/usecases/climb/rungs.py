"""The climb: the floor, each rung's candidate, its evidence on dev, and the choice."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from tailorbird import evaluation, release, rungs
from tailorbird.crypto.canonical_json import canonical_json, digest_of
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.evidence import Evidence, GateResult, ItemResult, Metric, Prediction, Standing, Verdict
from tailorbird.domain.ladder import Candidate, Choice, Climb, Fit, Ladder, Making, Measured, Refusal, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Plan, RungPlan
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.domain.run import TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Engine
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.stats.comparison_sentences import measured_words, standing_word
from tailorbird.system.peak_memory import PeakMemory
from tailorbird.text.linear_classifier import ENCODER, write_linear
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.climb import regression_limits, shifted_part
from tailorbird.usecases.climb.experiment_tracking import tracked
from tailorbird.usecases.climb.metric_spec import against, as_lines, comparison_of, spec_of
from tailorbird.usecases.climb.remarks import remarks_of
from tailorbird.usecases.climb.rung_context import context_of
from tailorbird.usecases.climb.snapshot_and_plan import planned
from tailorbird.usecases.climb.timing import error_of
from tailorbird.usecases.climb.vector_cache import VectorCache
from tailorbird.usecases.dependencies import Progress
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.cancellation import ended_by, require_memory, within_memory
from tailorbird.usecases.steps.rung_approval import require_allowance
from tailorbird.usecases.steps.step_context import StepContext, StepOutcome

#: Steps whose mean loss tells how well the learned rows are known.
_LAST_STEPS = 5


def measure_floor(context: StepContext) -> StepOutcome:
    """Fits the floor on train, measures it on dev and, where it is the lowest rung, decides whether to go on.

    As a rung it is measured by the engine that would serve it.
    """
    memory, train, is_rung = PeakMemory(), context.rows(Split.TRAIN), transitions.floor_is_rung(context.objective, planned(context))
    vectors = _floor_vectors(context)
    context.progress.tell(f"fitting the floor on words{' and vectors' if vectors else ''}")
    embed = vectors.of if vectors else None
    objective, labels = context.objective, context.manifest.labels
    model = rungs.fit_floor(train, labels, objective.seed, many=context.many, embed=embed, goal=rungs.goal_of(objective))
    candidate = Candidate(
        rung=RungKind.FLOOR,
        variant=model.variant,
        base_model=context.base.digest,
        prompt=_floor_prompt(context, model.thresholds),
        floor=_stored(context, model, vectors.model if vectors else None) if is_rung else None,
        trained_parameters=model.parameters,
        seed=context.objective.seed,
    )
    evidence = regression_limits.with_safety(context, candidate, None, _floor_evidence(context, candidate, model))
    if vectors:
        vectors.forget()
    choice, reason = _after_floor(context, evidence) if is_rung else (None, "")
    making = Making(candidate=digest_of(candidate), seconds=model.seconds, process_memory_gb=memory.gib, **_spent(context, model.seconds))

    def keep(work: UnitOfWork) -> None:
        for value in (candidate, making, evidence):
            work.records.put(value)

    digests = {"candidate": digest_of(candidate), "making": digest_of(making), "evidence": digest_of(evidence)}
    facts: Facts = _headline(context, evidence) | ({"choice": choice.value} if choice else {})
    return StepOutcome(Measured(**digests, choice=choice, reason=reason), facts, keep)


def _floor_vectors(context: StepContext) -> VectorCache | None:
    """What gives the vectors that the plan has the floor read; None where it reads words alone."""
    floor, deps = planned(context).floor, context.deps
    if floor is None or floor.encoder is None:
        return None
    model = deps.artifacts.get_tree(floor.encoder)
    return VectorCache(deps.encoder(), floor.encoder, model, deps.vectors(context.run.id), context.progress)


def _floor_prompt(context: StepContext, thresholds: tuple[float, ...]) -> PromptSpec:
    """What answers are made of; where an item may bear several labels, each is scored by itself."""
    manifest, instruction = context.manifest, context.objective.task.instruction
    sets = manifest.label_sets
    return PromptSpec(instruction=instruction, labels=manifest.labels, label_sets=sets, alone=context.many, thresholds=thresholds)


def _floor_evidence(context: StepContext, candidate: Candidate, model: rungs.FloorModel) -> Evidence:
    """By the engine where it is stored; otherwise by what was fitted."""
    if candidate.floor is not None:
        return examine(context, candidate, Split.DEV)
    dev = context.rows(Split.DEV)
    computed_by = "scikit-learn, torch" if model.embed else "scikit-learn"
    predictions, shifted = model.predict(dev, _concurrency(context)), context.shifted_rows(Split.DEV)
    served = regression_limits.served(context, Split.DEV, 1, predictions, lambda more: model.predict(more, _concurrency(context)))
    evidence = _with_served(weigh(context, candidate, dev, predictions, computed_by), served)
    return shifted_part.with_shift(context, evidence, shifted, model.predict(shifted, _concurrency(context)) if shifted else [])


def _with_served(evidence: Evidence, served: dict[str, Metric]) -> Evidence:
    """What answering takes, as it was timed for the limits on it, in place of what the items alone tell."""
    return evidence.model_copy(update={"metrics": evidence.metrics | served})


def _after_floor(context: StepContext, evidence: Evidence) -> tuple[Choice, str]:
    """Whether to climb above a floor that is a rung, and why."""
    gate, following = _floor_gate(context, evidence), transitions.above(planned(context), (), ())
    told = "; ".join((gate.reason, *evidence.remarks))
    return transitions.decide(context.objective, following, transitions.Measured(gate.verdict, told, context.spent))


def _concurrency(context: StepContext) -> int:
    """Requests at a time for which latency is limited."""
    return limit.at_concurrency if (limit := context.objective.limits.latency_p95_ms) else 1


def _spent(context: StepContext, seconds: float) -> dict[str, float]:
    """What so many seconds of this machine come to."""
    hours, prices = seconds / 3600, context.deps.prices
    return {"money": hours * prices.per_hour, "energy_kwh": hours * prices.watts / 1000}


def _stored(context: StepContext, model: rungs.FloorModel, encoder: Path | None) -> Digest:
    """The floor as an artifact, with the encoder that it asks."""
    with tempfile.TemporaryDirectory() as folder:
        if encoder is not None:
            shutil.copytree(encoder, Path(folder) / ENCODER)
        write_linear(model.linear, Path(folder))
        return context.deps.artifacts.put_tree(Path(folder))


def make_candidate(context: StepContext, rung: RungPlan) -> StepOutcome:
    """Makes a rung's candidate. Training resumes from its last checkpoint when it was interrupted.

    When the budget is used up the rung ends there: its checkpoint stays in the run's folder, and the climb ends with what was measured.
    When the rung fails for a reason of its own, that is evidence, and the ladder goes on above it. Raises Conflict
    (``rung_not_allowed``) for a rung that somebody must allow first.
    """
    require_allowance(context, rung)
    memory = PeakMemory()
    context = _within_memory(context, memory)
    try:
        with tracked(context, rung) as tracking:
            rung_context = context_of(context, rung, context.base_for(rung))
            made = rungs.make_candidate(replace(rung_context, report=tracking.ahead_of(rung_context.report)))
            tracking.report = made.training
        require_memory(context.objective.budget, memory)
    except Exception as error:
        if (ended := ended_by(error)) is None:
            raise
        return _ended(rung, ended)
    making = Making(
        candidate=digest_of(made.candidate),
        training=digest_of(made.training) if made.training else None,
        seconds=made.seconds,
        peak_memory_gb=made.peak_memory_gb,
        process_memory_gb=memory.gib,
        **_spent(context, made.seconds),
    )

    def keep(work: UnitOfWork) -> None:
        work.records.put(made.candidate)
        if made.training is not None:
            work.records.put(made.training)
            if (error := error_of(context, rung, made.training)) is not None:
                work.records.put(error)

    facts: Facts = {"rung": rung.rung.value, "variant": rung.variant, "trained_parameters": made.candidate.trained_parameters}
    return StepOutcome(making, facts, keep)


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
        evidence = _with_limits(context, candidate, making, examine(context, candidate, Split.DEV))
        require_memory(context.objective.budget, memory)
    except Exception as error:
        if (ended := ended_by(error)) is None:
            raise
        return _ended(rung, ended)
    highest = max(making.process_memory_gb, memory.gib)
    return _climbed(context, rung, making.model_copy(update={"process_memory_gb": highest}), evidence)


def _within_memory(context: StepContext, memory: PeakMemory) -> StepContext:
    """The context, whose progress ends the step where the process takes more memory than the objective's budget."""
    return replace(context, progress=within_memory(context.progress, context.objective.budget, memory))


def _climbed(context: StepContext, rung: RungPlan, making: Making, evidence: Evidence) -> StepOutcome:
    """The verdict on a measured rung, and what to do after it."""
    plan = planned(context)
    candidate = context.record(Candidate, evidence.candidate)
    gate = release.judge(release.GateInputs(objective=context.objective, evidence=evidence, look=1))
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
        money=making.money,
        energy_kwh=making.energy_kwh,
        process_memory_gb=making.process_memory_gb,
    )
    hopeless = transitions.passed_over(context.objective, plan, (*context.climbs, measured))
    tried = (
        {transitions.named(rung)}
        | {transitions.named(each) for each in context.climbs}
        | {transitions.named(each) for each in context.failed}
    )
    following = transitions.above(plan, tried, hopeless)
    why_not = hopeless.get(transitions.named(following), "") if following else ""
    told = "; ".join((gate.reason, *remarks_of(context, making, evidence)))
    choice, reason = transitions.decide(context.objective, following, transitions.Measured(gate.verdict, told, context.spent, why_not))
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
    so_far = release.judge(release.GateInputs(objective=context.objective, evidence=evidence, look=1))
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
    floor = _floor_climb(context) if transitions.FLOOR in context.done else None
    is_rung = _floor_is_rung(context)
    unconfirmed = tuple(look.candidate for look in context.looks)
    measured = (floor, *context.climbs) if floor and is_rung else context.climbs
    eligible = [climb for climb in measured if climb.candidate not in unconfirmed]
    chosen, reason = transitions.choose(
        eligible, lambda upper, lower: against(context, upper.evidence, lower.evidence), context.objective.expected_traffic
    )
    if unconfirmed:
        reason = transitions.after_looks(chosen, reason, [climb for climb in measured if climb.candidate in unconfirmed])
    ladder = Ladder(
        floor=floor,
        climbs=context.climbs,
        refused=_floor_refused(plan)
        + plan.left_out
        + _not_climbed(context, tuple(rung for rung in plan.rungs if transitions.measure_step(rung) not in context.done)),
        chosen=chosen.candidate if chosen else None,
        reason=reason + _floor_remark(context, chosen),
        floor_is_rung=is_rung,
        on_shifted=shifted_part.compared_on_shifted(context, measured),
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
    measured = (*([_floor_climb(context)] if _floor_is_rung(context) else []), *context.climbs)
    others = [climb for climb in measured if climb.candidate not in seen and climb.gate.verdict is Verdict.PASS]
    if others:
        return Choice.LOOK, f"{gate.reason}; {transitions.named(others[0])} passes on dev too"
    on_test = {"evidence": evidence, "gate": gate}
    climbs = [climb.model_copy(update=on_test) if climb.candidate == looked.candidate else climb for climb in context.climbs]
    hopeless = transitions.passed_over(context.objective, planned(context), climbs)
    tried = {transitions.named(each) for each in climbs} | {transitions.named(each) for each in context.failed}
    following = transitions.above(planned(context), tried, hopeless)
    why_not = hopeless.get(transitions.named(following), "") if following else ""
    return transitions.decide(context.objective, following, transitions.Measured(gate.verdict, gate.reason, context.spent, why_not))


def examine(context: StepContext, candidate: Candidate, split: Split, look: int = 1) -> Evidence:
    """Runs a candidate over one split with the serving engine and turns its answers into evidence, at the confidence of this look."""
    rows, shifted = context.rows(split), context.shifted_rows(split)
    engine = context.deps.engine()
    servable = context.servable(candidate)
    context.progress.tell(f"measuring {candidate.rung.value} {candidate.variant} on {len(rows)} {split.value} items")
    engine.load(servable)
    try:
        predictions = _ask(context, engine, servable, rows)
        served = regression_limits.served(context, split, look, predictions, lambda more: _ask(_quietly(context), engine, servable, more))
        beyond = _ask(context, engine, servable, shifted, timed=0) if shifted else []
    finally:
        engine.unload(servable.id)
    evidence = _with_served(weigh(context, candidate, rows, predictions, engine.fingerprint(), look), served)
    return shifted_part.with_shift(context, evidence, shifted, beyond, look)


def _quietly(context: StepContext) -> StepContext:
    """The context without its progress: requests that are timed one by one are counted by whoever asks for them."""
    return replace(context, progress=Progress())


def _ask(context: StepContext, engine: Engine, servable: Servable, rows: tuple[Row, ...], timed: int | None = None) -> list[Prediction]:
    """Answers to rows; latency is told by the first ``timed`` (None: as usual)."""
    ask = evaluation.ranked_predictions if context.objective.task.kind is TaskKind.RANK else evaluation.engine_predictions
    asked = evaluation.PredictionRequest(
        engine=engine,
        servable=servable,
        rows=rows,
        progress=context.progress.count,
        sampling=Sampling(max_tokens=256),
        concurrency=_concurrency(context),
    )
    return ask(asked if timed is None else replace(asked, timed=timed))


def weigh(
    context: StepContext, candidate: Candidate, rows: tuple[Row, ...], predictions: list[Prediction], engine: str, look: int = 1
) -> Evidence:
    """Predictions on rows of one split turned into metrics with intervals; every item's result is kept as an artifact."""
    spec = spec_of(context, look)
    items = evaluation.item_results(rows, predictions, spec)
    spec = replace(spec, refer_below=_threshold(context, candidate, items, spec))
    return Evidence(
        candidate=digest_of(candidate),
        split=rows[0].split,
        n=len(rows),
        metrics=evaluation.metrics_of(items, spec),
        items=context.deps.artifacts.put(as_lines(items)),
        seconds=sum(prediction.latency_ms for prediction in predictions) / 1000,
        engine=engine,
        refer_below=spec.refer_below,
        breakdown=context.deps.artifacts.put(canonical_json(evaluation.break_down(rows, items, spec))),
        compared_on=comparison_of(context).metric,
        remarks=evaluation.degenerate_answer_remarks(items, spec),
    )


def _threshold(context: StepContext, candidate: Candidate, items: tuple[ItemResult, ...], spec: evaluation.MeasureSpec) -> float | None:
    """Below which probability an item is referred: calibrated when a candidate is measured on dev, and kept from then on."""
    referral = context.objective.referral
    if referral is None:
        return None
    measured = (*context.climbs, *((_floor_climb(context),) if transitions.FLOOR in context.done else ()))
    known = next((climb.evidence.refer_below for climb in measured if climb.candidate == digest_of(candidate)), None)
    return evaluation.referral_threshold(items, referral.max_error, spec.confidence) if known is None else known


def _headline(context: StepContext, evidence: Evidence) -> Facts:
    """The metric in which candidates are compared, as a fact of the log."""
    name = comparison_of(context).metric
    metric = evidence.metrics.get(name)
    return {"metric": name, "value": round(metric.value, 4) if metric else None}


def _not_climbed(context: StepContext, left: tuple[RungPlan, ...]) -> tuple[Refusal, ...]:
    """The planned rungs that have no evidence, each with the reason."""
    last = _last_climb(context)
    why = "the rung below passes" if last is not None and last.choice is Choice.STOP else "the budget does not allow it"
    if last is not None and last.choice is Choice.REFUSE:
        why = last.reason.rpartition("; ")[2]
    hopeless = transitions.passed_over(context.objective, planned(context), context.climbs)
    reasons = {rung: hopeless.get(transitions.named(rung), why) for rung in left}
    reasons |= {rung: f"failed while it was being {reason}" for rung, reason in context.failed.items()}
    if context.stopped is not None:
        rung, reason = context.stopped
        reasons[rung] = f"ended while it was being made: {reason}"
    return tuple(Refusal(rung=rung.rung, reason=f"{rung.variant}: {reason}") for rung, reason in reasons.items())


def _last_climb(context: StepContext) -> Climb | None:
    """The highest rung that was climbed."""
    if context.climbs:
        return context.climbs[-1]
    return _floor_climb(context) if _floor_is_rung(context) else None


def _floor_is_rung(context: StepContext) -> bool:
    """True when the floor was measured as the lowest rung: it is stored then, and may be released."""
    if transitions.FLOOR not in context.done:
        return False
    return context.record(Candidate, context.result(Measured, transitions.FLOOR).candidate).floor is not None


def _floor_climb(context: StepContext) -> Climb:
    measured = context.result(Measured, transitions.FLOOR)
    candidate = context.record(Candidate, measured.candidate)
    making = context.record(Making, measured.making)
    evidence = context.record(Evidence, measured.evidence)
    return Climb(
        rung=RungKind.FLOOR,
        candidate=measured.candidate,
        variant=candidate.variant,
        trained_parameters=candidate.trained_parameters,
        evidence=evidence,
        gate=_floor_gate(context, evidence),
        against_below=None,
        choice=measured.choice or Choice.CLIMB,
        reason=measured.reason or "the classical reference, beside the ladder",
        seconds=making.seconds,
        peak_memory_gb=making.peak_memory_gb,
        money=making.money,
        energy_kwh=making.energy_kwh,
        process_memory_gb=making.process_memory_gb,
    )


def _floor_refused(plan: Plan) -> tuple[Refusal, ...]:
    """The floor, where it was not made."""
    refused = plan.floor.refused if plan.floor else ""
    return (Refusal(rung=RungKind.FLOOR, reason=f"it {refused}"),) if refused else ()


def _floor_gate(context: StepContext, evidence: Evidence) -> GateResult:
    return release.judge(release.GateInputs(objective=context.objective, evidence=evidence, look=1))


def _floor_remark(context: StepContext, chosen: Climb | None) -> str:
    """Says so when the classical reference would do."""
    if transitions.FLOOR not in context.done or _floor_is_rung(context):
        return ""
    floor = _floor_climb(context)
    if floor.gate.verdict is not Verdict.PASS:
        return ""
    if chosen is None:
        return f"; the classical reference passes: it suffices, and can be released: {_releasing_it(context)}"
    found = against(context, chosen.evidence, floor.evidence)
    remark = f"; note: the classical reference passes too ({standing_word(found)} against it, {measured_words(found)})"
    return remark if found.standing is Standing.BETTER else f"{remark}: {_releasing_it(context)} to let it be released"


def _releasing_it(context: StepContext) -> str:
    """What makes a reference the lowest rung."""
    return "remove `floor: reference`" if context.objective.floor.role == "reference" else "list floor in the ladder"
