"""The climb: the floor, each rung's candidate, its evidence on dev, and the choice.

In: a stage with a plan. Out: measured candidates and the decision after each. Must not know: how a rung works, how an engine computes.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from tailorbird import evaluation, release, rungs
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.evidence import Evidence, GateResult, ItemResult, Metric, Prediction, Standing, Verdict
from tailorbird.domain.ladder import Candidate, Choice, Climb, Fit, Ladder, Making, Measured, Refusal, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import Plan, RungPlan
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.domain.run import TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import canonical_json, digest_of
from tailorbird.foundations.high_water import HighWater
from tailorbird.foundations.linear_text import ENCODER, write_linear
from tailorbird.foundations.standing import measured_words, standing_word
from tailorbird.lifecycle.climbing import safety, shifting, timing
from tailorbird.lifecycle.climbing.calibrating import error_of
from tailorbird.lifecycle.climbing.measuring import against, as_lines, comparison_of, spec_of
from tailorbird.lifecycle.climbing.prepare import planned
from tailorbird.lifecycle.climbing.remarks import remarks_of
from tailorbird.lifecycle.climbing.rung_context import context_of
from tailorbird.lifecycle.climbing.tracking import tracked
from tailorbird.lifecycle.climbing.vectors import KeptVectors
from tailorbird.lifecycle.journal import Facts
from tailorbird.lifecycle.parts import Progress
from tailorbird.lifecycle.steps import story
from tailorbird.lifecycle.steps.allowing import require_allowance
from tailorbird.lifecycle.steps.failing import ended_by
from tailorbird.lifecycle.steps.limits import require_memory, within_memory
from tailorbird.lifecycle.steps.stage import Outcome, Stage
from tailorbird.ports.engine import Engine
from tailorbird.ports.ledger import UnitOfWork

#: Steps whose mean loss tells how well the learned rows are known.
_LAST_STEPS = 5


def measure_floor(stage: Stage) -> Outcome:
    """Fits the floor on train, measures it on dev and, where it is the lowest rung, decides whether to go on.

    As a rung it is measured by the engine that would serve it.
    """
    memory, train, is_rung = HighWater(), stage.rows(Split.TRAIN), story.floor_is_rung(stage.objective, planned(stage))
    vectors = _floor_vectors(stage)
    stage.progress.tell(f"fitting the floor on words{' and vectors' if vectors else ''}")
    embed = vectors.of if vectors else None
    objective, labels = stage.objective, stage.manifest.labels
    model = rungs.fit_floor(train, labels, objective.seed, many=stage.many, embed=embed, goal=rungs.goal_of(objective))
    candidate = Candidate(
        rung=RungKind.FLOOR,
        variant=model.variant,
        base_model=stage.base.digest,
        prompt=_floor_prompt(stage, model.thresholds),
        floor=_stored(stage, model, vectors.model if vectors else None) if is_rung else None,
        trained_parameters=model.parameters,
        seed=stage.objective.seed,
    )
    evidence = safety.with_safety(stage, candidate, None, _floor_evidence(stage, candidate, model))
    if vectors:
        vectors.forget()
    choice, reason = _after_floor(stage, evidence) if is_rung else (None, "")
    making = Making(candidate=digest_of(candidate), seconds=model.seconds, process_memory_gb=memory.gib, **_spent(stage, model.seconds))

    def keep(work: UnitOfWork) -> None:
        for value in (candidate, making, evidence):
            work.records.put(value)

    digests = {"candidate": digest_of(candidate), "making": digest_of(making), "evidence": digest_of(evidence)}
    facts: Facts = _headline(stage, evidence) | ({"choice": choice.value} if choice else {})
    return Outcome(Measured(**digests, choice=choice, reason=reason), facts, keep)


def _floor_vectors(stage: Stage) -> KeptVectors | None:
    """What gives the vectors that the plan has the floor read; None where it reads words alone."""
    floor, parts = planned(stage).floor, stage.parts
    if floor is None or floor.encoder is None:
        return None
    model = parts.artifacts.get_tree(floor.encoder)
    return KeptVectors(parts.encoder(), floor.encoder, model, parts.vectors(stage.run.id), stage.progress)


def _floor_prompt(stage: Stage, thresholds: tuple[float, ...]) -> PromptSpec:
    """What answers are made of; where an item may bear several labels, each is scored by itself."""
    manifest, instruction = stage.manifest, stage.objective.task.instruction
    sets = manifest.label_sets
    return PromptSpec(instruction=instruction, labels=manifest.labels, label_sets=sets, alone=stage.many, thresholds=thresholds)


def _floor_evidence(stage: Stage, candidate: Candidate, model: rungs.FloorModel) -> Evidence:
    """By the engine where it is stored; otherwise by what was fitted."""
    if candidate.floor is not None:
        return examine(stage, candidate, Split.DEV)
    dev = stage.rows(Split.DEV)
    computed_by = "scikit-learn, torch" if model.embed else "scikit-learn"
    predictions, shifted = model.predict(dev, _concurrency(stage)), stage.shifted_rows(Split.DEV)
    served = timing.served(stage, Split.DEV, 1, predictions, lambda more: model.predict(more, _concurrency(stage)))
    evidence = _with_served(weigh(stage, candidate, dev, predictions, computed_by), served)
    return shifting.with_shift(stage, evidence, shifted, model.predict(shifted, _concurrency(stage)) if shifted else [])


def _with_served(evidence: Evidence, served: dict[str, Metric]) -> Evidence:
    """What answering takes, as it was timed for the limits on it, in place of what the items alone tell."""
    return evidence.model_copy(update={"metrics": evidence.metrics | served})


def _after_floor(stage: Stage, evidence: Evidence) -> tuple[Choice, str]:
    """Whether to climb above a floor that is a rung, and why."""
    gate, following = _floor_gate(stage, evidence), story.above(planned(stage), (), ())
    told = "; ".join((gate.reason, *evidence.remarks))
    return story.decide(stage.objective, following, story.Measured(gate.verdict, told, stage.spent))


def _concurrency(stage: Stage) -> int:
    """Requests at a time for which latency is limited."""
    return limit.at_concurrency if (limit := stage.objective.limits.latency_p95_ms) else 1


def _spent(stage: Stage, seconds: float) -> dict[str, float]:
    """What so many seconds of this machine come to."""
    hours, prices = seconds / 3600, stage.parts.prices
    return {"money": hours * prices.per_hour, "energy_kwh": hours * prices.watts / 1000}


def _stored(stage: Stage, model: rungs.FloorModel, encoder: Path | None) -> Digest:
    """The floor as an artifact, with the encoder that it asks."""
    with tempfile.TemporaryDirectory() as folder:
        if encoder is not None:
            shutil.copytree(encoder, Path(folder) / ENCODER)
        write_linear(model.linear, Path(folder))
        return stage.parts.artifacts.put_tree(Path(folder))


def make_candidate(stage: Stage, rung: RungPlan) -> Outcome:
    """Makes a rung's candidate. Training resumes from its last checkpoint when it was interrupted.

    When the budget is used up the rung ends there: its checkpoint stays in the run's folder, and the climb ends with what was measured.
    When the rung fails for a reason of its own, that is evidence, and the ladder goes on above it. Raises Conflict
    (``rung_not_allowed``) for a rung that somebody must allow first.
    """
    require_allowance(stage, rung)
    memory = HighWater()
    stage = _within_memory(stage, memory)
    try:
        with tracked(stage, rung) as tracking:
            context = context_of(stage, rung, stage.base_for(rung))
            made = rungs.make_candidate(replace(context, report=tracking.ahead_of(context.report)))
            tracking.report = made.training
        require_memory(stage.objective.budget, memory)
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
        **_spent(stage, made.seconds),
    )

    def keep(work: UnitOfWork) -> None:
        work.records.put(made.candidate)
        if made.training is not None:
            work.records.put(made.training)
            if (error := error_of(stage, rung, made.training)) is not None:
                work.records.put(error)

    facts: Facts = {"rung": rung.rung.value, "variant": rung.variant, "trained_parameters": made.candidate.trained_parameters}
    return Outcome(making, facts, keep)


def _ended(rung: RungPlan, ended: Making) -> Outcome:
    """What a rung leaves that ended before it was measured."""
    facts: Facts = {"rung": rung.rung.value, "variant": rung.variant, "stopped": ended.stopped}
    return Outcome(ended, facts)


def measure_candidate(stage: Stage, rung: RungPlan) -> Outcome:
    """Measures a candidate on dev, compares it with the rung below on the same items, and decides whether to go on.

    A candidate that cannot be measured for a reason of its own is evidence, as one that cannot be made.
    """
    making = stage.result(Making, story.make_step(rung))
    assert making.candidate is not None
    candidate, memory = stage.record(Candidate, making.candidate), HighWater()
    stage = _within_memory(stage, memory)
    try:
        evidence = _with_limits(stage, candidate, making, examine(stage, candidate, Split.DEV))
        require_memory(stage.objective.budget, memory)
    except Exception as error:
        if (ended := ended_by(error)) is None:
            raise
        return _ended(rung, ended)
    highest = max(making.process_memory_gb, memory.gib)
    return _climbed(stage, rung, making.model_copy(update={"process_memory_gb": highest}), evidence)


def _within_memory(stage: Stage, memory: HighWater) -> Stage:
    """The stage, whose progress ends the step where the process takes more memory than the objective's budget."""
    return replace(stage, progress=within_memory(stage.progress, stage.objective.budget, memory))


def _climbed(stage: Stage, rung: RungPlan, making: Making, evidence: Evidence) -> Outcome:
    """The verdict on a measured rung, and what to do after it."""
    plan = planned(stage)
    candidate = stage.record(Candidate, evidence.candidate)
    gate = release.judge(release.GateInputs(objective=stage.objective, evidence=evidence, look=1))
    measured = Climb(
        rung=rung.rung,
        candidate=digest_of(candidate),
        variant=rung.variant,
        trained_parameters=candidate.trained_parameters,
        evidence=evidence,
        gate=gate,
        against_below=against(stage, evidence, below.evidence) if (below := _last_climb(stage)) else None,
        choice=Choice.CLIMB,
        reason="",
        fit=_fit_of(stage, making),
        seconds=making.seconds,
        peak_memory_gb=making.peak_memory_gb,
        money=making.money,
        energy_kwh=making.energy_kwh,
        process_memory_gb=making.process_memory_gb,
    )
    hopeless = story.passed_over(stage.objective, plan, (*stage.climbs, measured))
    tried = {story.named(rung)} | {story.named(each) for each in stage.climbs} | {story.named(each) for each in stage.failed}
    following = story.above(plan, tried, hopeless)
    why_not = hopeless.get(story.named(following), "") if following else ""
    told = "; ".join((gate.reason, *remarks_of(stage, making, evidence)))
    choice, reason = story.decide(stage.objective, following, story.Measured(gate.verdict, told, stage.spent, why_not))
    climb = measured.model_copy(update={"choice": choice, "reason": reason})

    def keep(work: UnitOfWork) -> None:
        work.records.put(evidence)
        work.records.put(gate)

    facts: Facts = {"rung": rung.rung.value, "variant": rung.variant, "verdict": gate.verdict.value, "choice": choice.value}
    return Outcome(climb, facts, keep)


def _with_limits(stage: Stage, candidate: Candidate, making: Making, evidence: Evidence) -> Evidence:
    """What training cost is measured only where nothing fails already."""
    asked = safety.asked_for(stage)
    if not asked:
        return evidence
    so_far = release.judge(release.GateInputs(objective=stage.objective, evidence=evidence, look=1))
    if so_far.verdict is Verdict.FAIL:
        return safety.put_off(evidence, asked)
    return safety.with_safety(stage, candidate, making.training, evidence)


def _fit_of(stage: Stage, making: Making) -> Fit | None:
    """How far a rung's training got; None where nothing was trained."""
    if making.training is None:
        return None
    report = stage.record(TrainingReport, making.training)
    last = [line.loss for line in report.history if line.step][-_LAST_STEPS:]
    return Fit(learned=sum(last) / len(last), held_out=report.best_held_out_loss) if last else None


def choose(stage: Stage) -> Outcome:
    """Chooses the candidate that goes on to the sealed test, and closes the record of the climb."""
    plan = planned(stage)
    floor = _floor_climb(stage) if story.FLOOR in stage.done else None
    is_rung = _floor_is_rung(stage)
    unconfirmed = tuple(look.candidate for look in stage.looks)
    measured = (floor, *stage.climbs) if floor and is_rung else stage.climbs
    eligible = [climb for climb in measured if climb.candidate not in unconfirmed]
    chosen, reason = story.choose(
        eligible, lambda upper, lower: against(stage, upper.evidence, lower.evidence), stage.objective.expected_traffic
    )
    if unconfirmed:
        reason = story.after_looks(chosen, reason, [climb for climb in measured if climb.candidate in unconfirmed])
    ladder = Ladder(
        floor=floor,
        climbs=stage.climbs,
        refused=_floor_refused(plan)
        + plan.left_out
        + _not_climbed(stage, tuple(rung for rung in plan.rungs if story.measure_step(rung) not in stage.done)),
        chosen=chosen.candidate if chosen else None,
        reason=reason + _floor_remark(stage, chosen),
        floor_is_rung=is_rung,
        on_shifted=shifting.compared_on_shifted(stage, measured),
        compared_on=comparison_of(stage).metric,
        unconfirmed=unconfirmed,
    )
    return Outcome(ladder, {"chosen": ladder.chosen, "climbed": len(ladder.climbs)})


def after_look(stage: Stage, looked: Climb, evidence: Evidence, gate: GateResult) -> tuple[Choice, str]:
    """What to do after the sealed test did not confirm ``looked``, and why: look at another candidate that passes on dev, climb on, or end.

    ``evidence`` and ``gate`` are the test's. The next look is paid for from the error budget of the objective (decision 0059).
    """
    if unprovable := release.unprovable_next(release.GateInputs(objective=stage.objective, evidence=evidence, look=gate.look)):
        return Choice.STOP, f"{gate.reason}; {unprovable}"
    seen = {looked.candidate, *(look.candidate for look in stage.looks)}
    measured = (*([_floor_climb(stage)] if _floor_is_rung(stage) else []), *stage.climbs)
    others = [climb for climb in measured if climb.candidate not in seen and climb.gate.verdict is Verdict.PASS]
    if others:
        return Choice.LOOK, f"{gate.reason}; {story.named(others[0])} passes on dev too"
    on_test = {"evidence": evidence, "gate": gate}
    climbs = [climb.model_copy(update=on_test) if climb.candidate == looked.candidate else climb for climb in stage.climbs]
    hopeless = story.passed_over(stage.objective, planned(stage), climbs)
    tried = {story.named(each) for each in climbs} | {story.named(each) for each in stage.failed}
    following = story.above(planned(stage), tried, hopeless)
    why_not = hopeless.get(story.named(following), "") if following else ""
    return story.decide(stage.objective, following, story.Measured(gate.verdict, gate.reason, stage.spent, why_not))


def examine(stage: Stage, candidate: Candidate, split: Split, look: int = 1) -> Evidence:
    """Runs a candidate over one split with the serving engine and turns its answers into evidence, at the confidence of this look."""
    rows, shifted = stage.rows(split), stage.shifted_rows(split)
    engine = stage.parts.engine()
    servable = stage.servable(candidate)
    stage.progress.tell(f"measuring {candidate.rung.value} {candidate.variant} on {len(rows)} {split.value} items")
    engine.load(servable)
    try:
        predictions = _ask(stage, engine, servable, rows)
        served = timing.served(stage, split, look, predictions, lambda more: _ask(_quietly(stage), engine, servable, more))
        beyond = _ask(stage, engine, servable, shifted, timed=0) if shifted else []
    finally:
        engine.unload(servable.id)
    evidence = _with_served(weigh(stage, candidate, rows, predictions, engine.fingerprint(), look), served)
    return shifting.with_shift(stage, evidence, shifted, beyond, look)


def _quietly(stage: Stage) -> Stage:
    """The stage without its progress: requests that are timed one by one are counted by whoever asks for them."""
    return replace(stage, progress=Progress())


def _ask(stage: Stage, engine: Engine, servable: Servable, rows: tuple[Row, ...], timed: int | None = None) -> list[Prediction]:
    """Answers to rows; latency is told by the first ``timed`` (None: as usual)."""
    ask = evaluation.ranked_predictions if stage.objective.task.kind is TaskKind.RANK else evaluation.engine_predictions
    asked = evaluation.PredictionRequest(
        engine=engine,
        servable=servable,
        rows=rows,
        progress=stage.progress.count,
        sampling=Sampling(max_tokens=256),
        concurrency=_concurrency(stage),
    )
    return ask(asked if timed is None else replace(asked, timed=timed))


def weigh(stage: Stage, candidate: Candidate, rows: tuple[Row, ...], predictions: list[Prediction], engine: str, look: int = 1) -> Evidence:
    """Predictions on rows of one split turned into metrics with intervals; every item's result is kept as an artifact."""
    spec = spec_of(stage, look)
    items = evaluation.results(rows, predictions, spec)
    spec = replace(spec, refer_below=_threshold(stage, candidate, items, spec))
    return Evidence(
        candidate=digest_of(candidate),
        split=rows[0].split,
        n=len(rows),
        metrics=evaluation.metrics_of(items, spec),
        items=stage.parts.artifacts.put(as_lines(items)),
        seconds=sum(prediction.latency_ms for prediction in predictions) / 1000,
        engine=engine,
        refer_below=spec.refer_below,
        breakdown=stage.parts.artifacts.put(canonical_json(evaluation.break_down(rows, items, spec))),
        compared_on=comparison_of(stage).metric,
        remarks=evaluation.remarks(items, spec),
    )


def _threshold(stage: Stage, candidate: Candidate, items: tuple[ItemResult, ...], spec: evaluation.MeasureSpec) -> float | None:
    """Below which probability an item is referred: calibrated when a candidate is measured on dev, and kept from then on."""
    referral = stage.objective.referral
    if referral is None:
        return None
    measured = (*stage.climbs, *((_floor_climb(stage),) if story.FLOOR in stage.done else ()))
    known = next((climb.evidence.refer_below for climb in measured if climb.candidate == digest_of(candidate)), None)
    return evaluation.calibrated(items, referral.max_error, spec.confidence) if known is None else known


def _headline(stage: Stage, evidence: Evidence) -> Facts:
    """The metric in which candidates are compared, as a fact of the log."""
    name = comparison_of(stage).metric
    metric = evidence.metrics.get(name)
    return {"metric": name, "value": round(metric.value, 4) if metric else None}


def _not_climbed(stage: Stage, left: tuple[RungPlan, ...]) -> tuple[Refusal, ...]:
    """The planned rungs that have no evidence, each with the reason."""
    last = _last_climb(stage)
    why = "the rung below passes" if last is not None and last.choice is Choice.STOP else "the budget does not allow it"
    if last is not None and last.choice is Choice.REFUSE:
        why = last.reason.rpartition("; ")[2]
    hopeless = story.passed_over(stage.objective, planned(stage), stage.climbs)
    reasons = {rung: hopeless.get(story.named(rung), why) for rung in left}
    reasons |= {rung: f"failed while it was being {reason}" for rung, reason in stage.failed.items()}
    if stage.stopped is not None:
        rung, reason = stage.stopped
        reasons[rung] = f"ended while it was being made: {reason}"
    return tuple(Refusal(rung=rung.rung, reason=f"{rung.variant}: {reason}") for rung, reason in reasons.items())


def _last_climb(stage: Stage) -> Climb | None:
    """The highest rung that was climbed."""
    if stage.climbs:
        return stage.climbs[-1]
    return _floor_climb(stage) if _floor_is_rung(stage) else None


def _floor_is_rung(stage: Stage) -> bool:
    """True when the floor was measured as the lowest rung: it is stored then, and may be released."""
    if story.FLOOR not in stage.done:
        return False
    return stage.record(Candidate, stage.result(Measured, story.FLOOR).candidate).floor is not None


def _floor_climb(stage: Stage) -> Climb:
    measured = stage.result(Measured, story.FLOOR)
    candidate = stage.record(Candidate, measured.candidate)
    making = stage.record(Making, measured.making)
    evidence = stage.record(Evidence, measured.evidence)
    return Climb(
        rung=RungKind.FLOOR,
        candidate=measured.candidate,
        variant=candidate.variant,
        trained_parameters=candidate.trained_parameters,
        evidence=evidence,
        gate=_floor_gate(stage, evidence),
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


def _floor_gate(stage: Stage, evidence: Evidence) -> GateResult:
    return release.judge(release.GateInputs(objective=stage.objective, evidence=evidence, look=1))


def _floor_remark(stage: Stage, chosen: Climb | None) -> str:
    """Says so when the classical reference would do."""
    if story.FLOOR not in stage.done or _floor_is_rung(stage):
        return ""
    floor = _floor_climb(stage)
    if floor.gate.verdict is not Verdict.PASS:
        return ""
    if chosen is None:
        return f"; the classical reference passes: it suffices, and can be released: {_releasing_it(stage)}"
    found = against(stage, chosen.evidence, floor.evidence)
    remark = f"; note: the classical reference passes too ({standing_word(found)} against it, {measured_words(found)})"
    return remark if found.standing is Standing.BETTER else f"{remark}: {_releasing_it(stage)} to let it be released"


def _releasing_it(stage: Stage) -> str:
    """What makes a reference the lowest rung."""
    return "remove `floor: reference`" if stage.objective.floor.role == "reference" else "list floor in the ladder"
