"""Rungs of a climb, the floor first: candidates made and measured on dev, and the choice among them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tailorbird import release, rungs
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.errors import Conflict, NotFound, TailorbirdError
from tailorbird.domain.evidence import Evidence, GateResult, ScopeTrial, Standing, Verdict
from tailorbird.domain.ladder import Candidate, Choice, Climb, Fit, Ladder, Making, Measured, Refusal, RungKind
from tailorbird.domain.objective import RiskTier
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.run import StoredTraining, TrainingOrigin, TrainingPlateau, TrainingProgress, TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ledger import UnitOfWork
from tailorbird.ports.encoder import Vectors
from tailorbird.ports.tracker import TrackedTraining, Tracker
from tailorbird.ports.trainer import Job
from tailorbird.reporting.comparison_sentences import measured_words, standing_word
from tailorbird.system.machine import PeakMemory
from tailorbird.text.linear_classifier import ENCODER, write_linear
from tailorbird.usecases.anchored_rows import anchored_erasures, anchored_records
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.runs import transitions
from tailorbird.usecases.runs.context import StepContext, StepOutcome, context_of, ended_by, require_memory, within_memory
from tailorbird.usecases.runs.hosted_engine import HostedEngine, asked_for_rung, paid
from tailorbird.usecases.runs.measurement import (
    against,
    asked_for,
    compared_on_shifted,
    comparison_of,
    costs_of,
    examine,
    measure_serving,
    remarks_of,
    weigh,
    with_safety,
    with_scope,
    with_shift,
)
from tailorbird.usecases.runs.provability import unpayable
from tailorbird.usecases.runs.record import allowances_of, dev_gate, refused_floor
from tailorbird.usecases.snapshots import certificates_of


def reusable_training(context: StepContext, fingerprint: Digest, job: Job) -> rungs.ReusableTraining | None:
    """The newest finished training that gives the bytes of ``job`` and whose files are there; none that an erasure reached, nor any while
    one is asked for whose reach is not known yet. Raises Corrupt where one was changed."""
    wanted, waiting = (fingerprint, context.manifest.rows), job.settings.waiting_epochs
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        reached = [[each.reach for each in certificates_of(work, erasure)] for erasure in anchored_erasures(work)]
        if not all(reached):
            return None
        gone = {digest for reaches in reached for reach in reaches for digest in (*reach.snapshots, *reach.adapters)}
        stored = [work.records.get(StoredTraining, digest) for digest in reversed(anchored_records(work, StoredTraining))]
        alike = [each for each in stored if (each.fingerprint, each.rows) == wanted and not gone & {each.snapshot, each.tree}]
        known = [(each, work.records.get(TrainingReport, each.report)) for each in alike]
    for each, report in known:
        with suppress(NotFound):
            if waits_alike(each, report.plateau, waiting):
                folder = context.deps.artifacts.get_tree(each.tree)
                context.progress.tell(f"the weights of run {each.origin.run} are reused: it trained the same job to its end")
                return rungs.ReusableTraining(each, report, folder)
    return None


def stored_training(context: StepContext, rung: RungPlan, made: rungs.RungResult, making: Making) -> StoredTraining | None:
    """What later runs may reuse of a rung; None where nothing was trained here."""
    trained = made.trained
    if trained is None or rung.training is None or trained.reused is not None:
        return None
    return StoredTraining(
        fingerprint=trained.fingerprint,
        tree=trained.tree,
        report=digest_of(trained.report),
        snapshot=trained.report.snapshot,
        rows=context.manifest.rows,
        waiting_epochs=rung.training.waiting_epochs,
        origin=TrainingOrigin(
            run=context.run.id, at=context.deps.clock.now(), seconds=making.seconds, money=making.money, energy_kwh=making.energy_kwh
        ),
    )


def waits_alike(stored: StoredTraining, plateau: TrainingPlateau | None, waiting_epochs: int) -> bool:
    """True when the training, which stood on ``plateau``, would be the same with ``waiting_epochs``. One that might have waited and never
    had to is the same with any."""
    return stored.waiting_epochs == waiting_epochs or (stored.waiting_epochs > 0 and plateau is None)


#: Texts that are read between two words on progress: some seconds on a core.
_LOT = 256


def measure_floor(context: StepContext) -> StepOutcome:
    """Fits the floor on train, measures it on dev and, where it is the lowest rung, decides whether to go on.

    As a rung it is measured by the engine that would serve it.
    """
    memory, planned, deps = PeakMemory(), context.planned.floor, context.deps
    is_rung = transitions.floor_is_rung(context.objective, context.planned)
    # The encoder whose vectors it reads beside words, where the plan says so.
    folder = deps.artifacts.get_tree(planned.encoder) if planned and planned.encoder else None

    def embed(texts: Sequence[str]) -> Vectors:
        assert folder is not None
        found = list[Vectors]()
        for start in range(0, max(1, len(texts)), _LOT):
            found.append(deps.encoder().embed(folder, texts[start : start + _LOT]))
            if len(texts) > _LOT:
                context.progress.count(min(start + _LOT, len(texts)), len(texts))
        return np.concatenate(found)

    context.progress.tell(f"fitting the floor on words{' and vectors' if folder else ''}")
    model, trial = _fitted(context, context.rows(Split.TRAIN), embed if folder else None)
    stored = None
    if is_rung:  # with the encoder that it asks
        with tempfile.TemporaryDirectory() as place:
            if folder is not None:
                shutil.copytree(folder, Path(place) / ENCODER)
            write_linear(model.linear, Path(place))
            stored = deps.artifacts.put_tree(Path(place))
    candidate = Candidate(
        rung=RungKind.FLOOR,
        variant=model.variant,
        base_model=context.base.digest,
        prompt=PromptSpec(
            instruction=context.objective.task.instruction,
            labels=context.manifest.labels,
            label_sets=context.manifest.label_sets,
            alone=context.many,
            thresholds=model.thresholds,
        ),
        floor=stored,
        trained_parameters=model.parameters,
        seed=context.objective.seed,
    )
    evidence = with_safety(context, candidate, None, _evidence(context, candidate, model, trial))
    if folder:
        deps.encoder().forget(folder)
    choice: Choice | None = None
    reason = ""
    if is_rung:
        gate, following = dev_gate(context.objective, evidence), transitions.above(context.planned, (), ())
        found = transitions.RungVerdict(gate.verdict, "; ".join((gate.reason, *evidence.remarks)), context.spent)
        choice, reason = transitions.decide(context.objective, following, found)
    making = Making(
        candidate=digest_of(candidate),
        seconds=model.seconds,
        process_memory_gb=memory.gib,
        scope=trial,
        **costs_of(context, model.seconds),
    )

    def keep(work: UnitOfWork) -> None:
        for value in (candidate, making, evidence):
            work.records.put(value)

    digests = {"candidate": digest_of(candidate), "making": digest_of(making), "evidence": digest_of(evidence)}
    name = comparison_of(context).metric
    compared = evidence.metrics.get(name)
    facts: Facts = {"metric": name, "value": round(compared.value, 4) if compared else None}
    facts |= {"choice": choice.value} if choice else {}
    return StepOutcome(Measured(**digests, choice=choice, reason=reason), facts, keep)


def _fitted(
    context: StepContext, train: Sequence[Row], embed: Callable[[Sequence[str]], Vectors] | None
) -> tuple[rungs.FloorModel, ScopeTrial | None]:
    """The floor; where requests out of scope are refused, with what tells them, and how scorers did on labels left out where there are no
    examples, or too few."""
    objective, labels, scoped = context.objective, context.manifest.labels, context.objective.task.out_of_scope is not None
    reading = rungs.remembered(embed) if scoped and embed else embed
    model = rungs.fit_floor(train, labels, objective.seed, many=context.many, embed=reading, goal=rungs.goal_of(objective))
    if not scoped:
        return model, None
    started, model = time.perf_counter(), rungs.with_references(model, train)
    trial = None
    if context.leaves_labels_out:
        context.progress.tell("leaving labels out, to choose what tells requests out of scope")
        fit, confidence = partial(rungs.fit_floor, seed=objective.seed, embed=reading), objective.business.risk.confidence
        trial = rungs.trial_of(fit, (train, context.rows(Split.DEV)), labels, confidence)
    return replace(model, seconds=model.seconds + time.perf_counter() - started), trial


def _evidence(context: StepContext, candidate: Candidate, model: rungs.FloorModel, trial: ScopeTrial | None) -> Evidence:
    """By the engine where it is stored; otherwise by what was fitted."""
    if candidate.floor is not None:
        return examine(context, candidate, Split.DEV, trial=trial)
    dev = context.rows(Split.DEV)
    computed_by = "scikit-learn, torch" if model.embed else "scikit-learn"
    predict = partial(model.predict, concurrency=context.concurrency)
    predictions, shifted = predict(dev), context.shifted_rows(Split.DEV)
    served = measure_serving(context, candidate, Split.DEV, 1, predictions, predict)
    evidence = weigh(context, candidate, dev, predictions, computed_by, 1, served)
    evidence = with_scope(context, candidate, evidence, (predictions, model.predict(context.outside_rows(Split.DEV))), trial)
    return with_shift(context, evidence, shifted, predict(shifted) if shifted else [])


def floor_remark(context: StepContext, chosen: Climb | None) -> str:
    """Remark where the classical reference would suffice."""
    floor = context.floor
    if floor is None or context.floor_is_rung or floor.gate.verdict is not Verdict.PASS:
        return ""
    if chosen is None:
        return f"; the classical reference passes: it suffices, and can be released: {_releasing_it(context)}"
    found = against(context, chosen.evidence, floor.evidence)
    remark = f"; note: the classical reference passes too ({standing_word(found)} against it, {measured_words(found)})"
    return remark if found.standing is Standing.BETTER else f"{remark}: {_releasing_it(context)} to let it be released"


def _releasing_it(context: StepContext) -> str:
    """What makes a reference the lowest rung."""
    return "remove `floor: reference`" if context.objective.floor.role == "reference" else "list floor in the ladder"


class ExperimentTracking:
    """Trackers of this workspace that have not failed, told of the training of ``rung`` from its first step on: one that is reused has
    none."""

    def __init__(self, context: StepContext, rung: RungPlan) -> None:
        self._context, self._rung = context, rung
        self._trackers = list(context.deps.trackers()) if rung.training else []
        self._begun = False

    def note(self, line: TrainingProgress) -> None:
        """Shows a step."""
        if not self._begun:
            self._begun, context, rung = True, self._context, self._rung
            facts = {"base_model": context.base_for(rung).name, "snapshot": digest_of(context.manifest)}
            training = TrackedTraining(
                experiment=f"{context.run.tenant}/{context.run.objective_name}",
                run=context.run.id,
                name=transitions.make_step(rung),
                settings=facts | _flat(plain_json(rung.training)),
            )
            self._each(lambda tracker: tracker.begin(training))
        self._each(lambda tracker: tracker.note(line))

    def end(self, report: TrainingReport | None) -> None:
        """Tells that a training which had begun is over; without ``report``: early."""
        if self._begun:
            self._each(lambda tracker: tracker.end(report))

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                do(tracker)
            except TailorbirdError as error:
                self._trackers.remove(tracker)
                self._context.progress.tell(f"metrics are shown no longer, the training goes on: {error.message}")


def _flat(settings: object, name: str = "") -> dict[str, str]:
    if not isinstance(settings, dict):
        return {name: str(settings)}
    parts = [_flat(value, f"{name}.{key}" if name else key) for key, value in settings.items()]
    return {key: value for part in parts for key, value in part.items()}


#: Steps whose mean loss tells how well the learned rows are known.
_LAST_STEPS = 5


def require_allowance(context: StepContext, rung: RungPlan) -> None:
    """Raises Conflict ``rung_not_allowed`` for full fine-tuning at high risk that nobody has allowed. The run waits, and loses nothing."""
    if rung.rung is not RungKind.FULL or context.objective.business.risk is not RiskTier.HIGH:
        return
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        given = allowances_of(work, context.run.id)
    if not any(one.rung is rung.rung for one in given):
        raise Conflict(
            f"all weights are to be trained next, and the risk is high: somebody must allow {rung.rung.value} for run {context.run.id}",
            f"what cheaper rungs reached: tailorbird evidence {context.run.id}; an approver: tailorbird runs allow {context.run.id} "
            "--as approver; then adapt again",
            code="rung_not_allowed",
        )


def make_candidate(context: StepContext, rung: RungPlan) -> StepOutcome:
    """Makes a rung's candidate. Training resumes from its last checkpoint when it was interrupted, and is not done again where another run
    of the tenant has trained the same job.

    When the budget is used up the rung ends there: its checkpoint stays in the run's folder, and the climb ends with what was measured.
    When the rung fails for a reason of its own, that is evidence, and the ladder goes on above it. Raises Conflict
    (``rung_not_allowed``) for a rung that somebody must allow first.
    """
    require_allowance(context, rung)
    memory = PeakMemory()
    context = _within_memory(context, memory)
    asked: HostedEngine | None = None
    tracking = ExperimentTracking(context, rung)
    trained: TrainingReport | None = None
    try:
        with asked_for_rung(context, rung) as asked:
            rung_context = context_of(context, rung, context.base_for(rung))

            def report(line: TrainingProgress) -> None:
                tracking.note(line)
                rung_context.report(line)  # which may end the training

            reusable, ask = partial(reusable_training, context), asked.ask if asked else None
            made = rungs.make_candidate(replace(rung_context, report=report, reusable=reusable, ask_hosted=ask))
            trained = made.training
        require_memory(context.objective.budget, memory)
    except Exception as error:
        if (ended := ended_by(error)) is None:
            raise
        return _ended(rung, paid(ended, asked))
    finally:
        tracking.end(trained)
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
    plan = context.planned
    candidate = context.record(Candidate, evidence.candidate)
    gate = release.apply_gate(release.GateInputs(objective=context.objective, evidence=evidence, look=1))
    measured = Climb(
        rung=rung.rung,
        candidate=digest_of(candidate),
        variant=rung.variant,
        trained_parameters=candidate.trained_parameters,
        evidence=evidence,
        gate=gate,
        against_below=against(context, evidence, context.measured[-1].evidence) if context.measured else None,
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
    asked = asked_for(context)
    if not asked:
        return evidence
    so_far = release.apply_gate(release.GateInputs(objective=context.objective, evidence=evidence, look=1))
    if so_far.verdict is Verdict.FAIL:
        # The evidence with the reason why ``names`` were not measured: what fails already is not measured further.
        reason = "is not measured: a target or another limit fails already"
        return evidence.model_copy(update={"unmeasured": evidence.unmeasured | {name: f"{name} {reason}" for name in asked}})
    return with_safety(context, candidate, making.training, evidence)


def _fit_of(context: StepContext, making: Making) -> Fit | None:
    """How far a rung's training got; None where nothing was trained."""
    if making.training is None:
        return None
    report = context.record(TrainingReport, making.training)
    last = [line.loss for line in report.history if line.step][-_LAST_STEPS:]
    return Fit(learned=sum(last) / len(last), held_out=report.best_held_out_loss) if last else None


def choose(context: StepContext) -> StepOutcome:
    """Chooses the candidate that goes on to the sealed test, and closes the record of the climb."""
    plan = context.planned
    floor = context.floor
    unconfirmed = tuple(look.candidate for look in context.looks)
    measured = context.measured
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
        floor_is_rung=context.floor_is_rung,
        on_shifted=compared_on_shifted(context, measured),
        compared_on=comparison_of(context).metric,
        unconfirmed=unconfirmed,
    )
    return StepOutcome(ladder, {"chosen": ladder.chosen, "climbed": len(ladder.climbs)})


def after_look(context: StepContext, looked: Climb, evidence: Evidence, gate: GateResult) -> tuple[Choice, str]:
    """What to do after the sealed test did not confirm ``looked``, and why: look at another candidate that passes on dev, climb on, or end.

    ``evidence`` and ``gate`` are the test's. The next look is paid for from the error budget of the objective.
    """
    if unprovable := release.unprovable_next(release.GateInputs(objective=context.objective, evidence=evidence, look=gate.look)):
        return Choice.STOP, f"{gate.reason}; {unprovable}"
    seen = {looked.candidate, *(look.candidate for look in context.looks)}
    others = [climb for climb in context.measured if climb.candidate not in seen and climb.gate.verdict is Verdict.PASS]
    if others:
        return Choice.LOOK, f"{gate.reason}; {transitions.named(others[0])} passes on dev too"
    on_test = {"evidence": evidence, "gate": gate}
    climbs = [climb.model_copy(update=on_test) if climb.candidate == looked.candidate else climb for climb in context.climbs]
    hopeless = transitions.passed_over(context.objective, context.planned, climbs)
    tried = {transitions.named(each) for each in climbs} | {transitions.named(each) for each in context.failed}
    following = transitions.above(context.planned, tried, hopeless)
    why_not = hopeless.get(transitions.named(following), "") if following else ""
    return transitions.decide(context.objective, following, transitions.RungVerdict(gate.verdict, gate.reason, context.spent, why_not))


def _not_climbed(context: StepContext, left: tuple[RungPlan, ...]) -> tuple[Refusal, ...]:
    """The planned rungs that have no evidence, each with the reason."""
    last = context.measured[-1] if context.measured else None
    why = "the rung below passes" if last is not None and last.choice is Choice.STOP else "the budget does not allow it"
    if last is not None and last.choice is Choice.REFUSE:
        why = last.reason.rpartition("; ")[2]
    hopeless = transitions.passed_over(context.objective, context.planned, context.climbs)
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
