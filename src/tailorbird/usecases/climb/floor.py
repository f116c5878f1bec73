"""Floor of a climb: fitted on words and, where the plan says so, on cached vectors; measured on dev; stored where it is a rung."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tailorbird import release, rungs
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.evidence import Evidence, GateResult, Standing, Verdict
from tailorbird.domain.ladder import Candidate, Choice, Climb, Making, Measured, Refusal, RungKind
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.scope import ScopeTrial
from tailorbird.domain.value import Digest
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.stats.comparison_sentences import measured_words, standing_word
from tailorbird.system.machine import PeakMemory
from tailorbird.text.linear_classifier import ENCODER, write_linear
from tailorbird.usecases.audit_events import Facts
from tailorbird.usecases.climb import regression_limits
from tailorbird.usecases.climb.measurement import (
    costs_of,
    examine,
    headline,
    limited_concurrency,
    weigh,
    with_scope,
    with_served,
    with_shift,
)
from tailorbird.usecases.climb.metric_spec import against
from tailorbird.usecases.climb.snapshot_and_plan import planned
from tailorbird.usecases.dependencies import Progress
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext, StepOutcome

#: Texts per lot: some seconds on a core.
_LOT = 256


@dataclass(frozen=True)
class VectorCache:
    """Embeddings by the encoder ``digest`` in ``model``, made in lots that ``folder`` keeps until the step is done: a kill costs one.

    A lot is a file named after the encoder's content and the texts; no word of a text lies in it. ``forget`` removes them all.
    """

    encoder: Encoder
    digest: Digest
    model: Path
    folder: Path
    progress: Progress

    def of(self, texts: Sequence[str]) -> Vectors:
        """(texts, width). Where there are several lots each is kept, and it is told how far it is."""
        lots = [tuple(texts[start : start + _LOT]) for start in range(0, len(texts), _LOT)]
        found: list[Vectors] = []
        for place, lot in enumerate(lots):
            found.append(self._lot(lot) if len(lots) > 1 else self.encoder.embed(self.model, lot))
            if len(lots) > 1:
                self.progress.count(min((place + 1) * _LOT, len(texts)), len(texts))
        return np.concatenate(found) if found else self.encoder.embed(self.model, ())

    def forget(self) -> None:
        """Removes what was kept, and gives back the encoder's memory."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.encoder.forget(self.model)

    def _lot(self, texts: tuple[str, ...]) -> Vectors:
        path = self.folder / f"{digest_of({'encoder': self.digest, 'texts': texts}).removeprefix('sha256:')}.npy"
        if (kept := _read(path, len(texts))) is not None:
            return kept
        made = self.encoder.embed(self.model, texts)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        with unfinished.open("wb") as file:
            np.save(file, made, allow_pickle=False)
        unfinished.replace(path)
        return made


def _read(path: Path, count: int) -> Vectors | None:
    """What was kept of a lot; None where there is nothing, or where it is damaged: it is made again."""
    try:
        kept: Vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return kept if kept.ndim == 2 and len(kept) == count and kept.dtype == np.float32 and bool(np.isfinite(kept).all()) else None


def measure_floor(context: StepContext) -> StepOutcome:
    """Fits the floor on train, measures it on dev and, where it is the lowest rung, decides whether to go on.

    As a rung it is measured by the engine that would serve it.
    """
    memory, train, is_rung = PeakMemory(), context.rows(Split.TRAIN), transitions.floor_is_rung(context.objective, planned(context))
    vectors = _vectors(context)
    context.progress.tell(f"fitting the floor on words{' and vectors' if vectors else ''}")
    model, trial = _fitted(context, train, vectors)
    candidate = Candidate(
        rung=RungKind.FLOOR,
        variant=model.variant,
        base_model=context.base.digest,
        prompt=_prompt(context, model.thresholds),
        floor=_stored(context, model, vectors.model if vectors else None) if is_rung else None,
        trained_parameters=model.parameters,
        seed=context.objective.seed,
    )
    evidence = regression_limits.with_safety(context, candidate, None, _evidence(context, candidate, model, trial))
    if vectors:
        vectors.forget()
    choice, reason = _after_floor(context, evidence) if is_rung else (None, "")
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
    facts: Facts = headline(context, evidence) | ({"choice": choice.value} if choice else {})
    return StepOutcome(Measured(**digests, choice=choice, reason=reason), facts, keep)


def _fitted(context: StepContext, train: Sequence[Row], vectors: VectorCache | None) -> tuple[rungs.FloorModel, ScopeTrial | None]:
    """The floor; where requests out of scope are refused, with what tells them, and how scorers did on labels left out where there are no
    examples, or too few."""
    objective, labels, embed = context.objective, context.manifest.labels, vectors.of if vectors else None
    scoped = objective.task.out_of_scope is not None
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


def _vectors(context: StepContext) -> VectorCache | None:
    """What gives the vectors that the plan has the floor read; None where it reads words alone."""
    floor, deps = planned(context).floor, context.deps
    if floor is None or floor.encoder is None:
        return None
    model = deps.artifacts.get_tree(floor.encoder)
    return VectorCache(deps.encoder(), floor.encoder, model, deps.vectors(context.run.id), context.progress)


def _prompt(context: StepContext, thresholds: tuple[float, ...]) -> PromptSpec:
    """What answers are made of; where an item may bear several labels, each is scored by itself."""
    manifest, instruction = context.manifest, context.objective.task.instruction
    sets = manifest.label_sets
    return PromptSpec(instruction=instruction, labels=manifest.labels, label_sets=sets, alone=context.many, thresholds=thresholds)


def _evidence(context: StepContext, candidate: Candidate, model: rungs.FloorModel, trial: ScopeTrial | None) -> Evidence:
    """By the engine where it is stored; otherwise by what was fitted."""
    if candidate.floor is not None:
        return examine(context, candidate, Split.DEV, trial=trial)
    dev = context.rows(Split.DEV)
    computed_by = "scikit-learn, torch" if model.embed else "scikit-learn"
    predictions, shifted = model.predict(dev, limited_concurrency(context)), context.shifted_rows(Split.DEV)
    served = regression_limits.served(
        context, candidate, Split.DEV, 1, predictions, lambda more: model.predict(more, limited_concurrency(context))
    )
    evidence = with_served(weigh(context, candidate, dev, predictions, computed_by), served)
    evidence = with_scope(context, candidate, evidence, (predictions, model.predict(context.outside_rows(Split.DEV))), trial)
    return with_shift(context, evidence, shifted, model.predict(shifted, limited_concurrency(context)) if shifted else [])


def _after_floor(context: StepContext, evidence: Evidence) -> tuple[Choice, str]:
    """Whether to climb above a floor that is a rung, and why."""
    gate, following = _gate(context.objective, evidence), transitions.above(planned(context), (), ())
    told = "; ".join((gate.reason, *evidence.remarks))
    return transitions.decide(context.objective, following, transitions.RungVerdict(gate.verdict, told, context.spent))


def _stored(context: StepContext, model: rungs.FloorModel, encoder: Path | None) -> Digest:
    """The floor as an artifact, with the encoder that it asks."""
    with tempfile.TemporaryDirectory() as folder:
        if encoder is not None:
            shutil.copytree(encoder, Path(folder) / ENCODER)
        write_linear(model.linear, Path(folder))
        return context.deps.artifacts.put_tree(Path(folder))


def floor_is_rung(context: StepContext) -> bool:
    """True when the floor was measured as the lowest rung: it is stored then, and may be released."""
    if transitions.FLOOR not in context.done:
        return False
    return context.record(Candidate, context.result(Measured, transitions.FLOOR).candidate).floor is not None


def floor_climb(context: StepContext) -> Climb:
    """The measured floor as a climb of the ladder."""
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        return floor_climb_of(work, context.objective, context.done[transitions.FLOOR])


def floor_climb_of(work: UnitOfWork, objective: Objective, result: Digest) -> Climb:
    """The floor that the step ``floor`` left as ``result``, as a climb of the ladder."""
    measured = work.records.get(Measured, result)
    candidate = work.records.get(Candidate, measured.candidate)
    making = work.records.get(Making, measured.making)
    evidence = work.records.get(Evidence, measured.evidence)
    return Climb(
        rung=RungKind.FLOOR,
        candidate=measured.candidate,
        variant=candidate.variant,
        trained_parameters=candidate.trained_parameters,
        evidence=evidence,
        gate=_gate(objective, evidence),
        against_below=None,
        choice=measured.choice or Choice.CLIMB,
        reason=measured.reason or "the classical reference, beside the ladder",
        seconds=making.seconds,
        peak_memory_gb=making.peak_memory_gb,
        money=making.money,
        energy_kwh=making.energy_kwh,
        process_memory_gb=making.process_memory_gb,
    )


def refused_floor(plan: Plan) -> tuple[Refusal, ...]:
    """The floor, where it was not made."""
    refused = plan.floor.refused if plan.floor else ""
    return (Refusal(rung=RungKind.FLOOR, reason=f"it {refused}"),) if refused else ()


def _gate(objective: Objective, evidence: Evidence) -> GateResult:
    return release.apply_gate(release.GateInputs(objective=objective, evidence=evidence, look=1))


def floor_remark(context: StepContext, chosen: Climb | None) -> str:
    """Remark where the classical reference would suffice."""
    if transitions.FLOOR not in context.done or floor_is_rung(context):
        return ""
    floor = floor_climb(context)
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
