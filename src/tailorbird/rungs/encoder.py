"""Rung ``encoder``: a sentence encoder tuned so that texts of one label lie together, and a linear head over its vectors.

The head is the floor's, over words and the tuned vectors, and so is the artifact: a linear model with the encoder that it reads
(``text/linear_classifier.py``), which the engine serves as it serves a floor (docs/decisions/0094).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import Internal
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.scope import ScopeTrial
from tailorbird.domain.value import Digest
from tailorbird.ports.encoder import Vectors
from tailorbird.ports.trainer import LabelJob, LabelledText, TrainedModel
from tailorbird.rungs.context import RungContext, RungResult, TrainedFiles, hold_out
from tailorbird.rungs.floor import Embed, FloorModel, fit_floor
from tailorbird.rungs.label_set_head import TunedLabels, fit_label_set_head, held_out_groups, label_set_texts
from tailorbird.rungs.label_thresholds import goal_of
from tailorbird.rungs.scope import remembered, trial_of, with_references
from tailorbird.rungs.trained_files import trained_files
from tailorbird.text.label_prototypes import PROTOTYPES, read_prototypes
from tailorbird.text.linear_classifier import ENCODER, write_linear

#: Labels that a head tells apart at the least, and factors of its log-odds that are tried.
_FEWEST, _FACTORS = 2, tuple(map(float, np.geomspace(0.2, 5.0, 65)))


def make_encoder(context: RungContext) -> RungResult:
    """Tunes the encoder, or reuses a finished tuning of the same job, and fits the head. Raises what the trainer and the floor raise."""
    started, job = time.perf_counter(), encoder_job(context)

    def tune() -> TrainedModel:
        context.progress(f"tuning the encoder on {len(job.train)} rows, {len(job.held_out)} held out")
        return context.trainer().tune(job, context.report)

    tuned = trained_files(context, job, tune)
    context.progress("fitting the head on words and tuned vectors")
    head, trial = _head(context, job, tuned)
    candidate = Candidate(
        rung=context.plan.rung,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=PromptSpec(
            instruction=context.objective.task.instruction,
            labels=context.labels,
            label_sets=context.label_sets,
            alone=job.alone,
            thresholds=head.thresholds,
        ),
        floor=_stored(context, head, tuned.folder),
        tuned=tuned.tree,
        trained_parameters=tuned.report.trained_parameters + head.parameters,
        seed=job.settings.seed,
    )
    return RungResult(candidate, time.perf_counter() - started, 0.0 if tuned.reused else tuned.report.peak_memory_gb, tuned, scope=trial)


def encoder_job(context: RungContext) -> LabelJob:
    """What the trainer is asked: train, less the rows held out to choose the best weights."""
    settings, encoder = context.plan.training, context.plan.encoder
    if settings is None or encoder is None or context.encoder_folder is None:
        raise Internal("the plan of the encoder has no training settings, or no encoder", "plan the climb again", code="plan_incomplete")
    many = context.objective.task.labels == "many"
    learn, held_out = label_set_texts(context.train, context.objective.seed) if many else _texts(context)
    return LabelJob(
        base=context.encoder_folder,
        base_digest=encoder,
        snapshot=context.snapshot,
        settings=settings,
        labels=context.labels,
        alone=many,
        train=learn,
        held_out=held_out,
        workspace=context.workspace,
        results=context.results,
    )


def _texts(context: RungContext) -> tuple[tuple[LabelledText, ...], tuple[LabelledText, ...]]:
    """What is learned, and what is held out, where an item bears one label."""
    learn, held_out = hold_out(context.train, context.objective.seed)
    return tuple(_labelled(row) for row in learn), tuple(_labelled(row) for row in held_out)


def _labelled(row: Row) -> LabelledText:
    return LabelledText(text=row.text, labels=(row.answer,))


def _head(context: RungContext, job: LabelJob, tuned: TrainedFiles) -> tuple[FloorModel, ScopeTrial | None]:
    """The head on all training rows. Its vectors are those of rows that the encoder has learned, which lie closer together than those of
    new texts: how sure it is, is taken from a head on the learned rows alone, asked of those held out.

    And how scorers of scope did on labels that heads were fitted without. The encoder has learned these labels: they look better than they
    are, and choose a scorer alone.
    """
    encoder = context.encoder()

    def embed(texts: Sequence[str]) -> Vectors:
        return encoder.embed(tuned.folder, texts)

    scoped = context.objective.task.out_of_scope is not None
    reading = remembered(embed) if scoped else embed
    try:
        seed, goal = job.settings.seed, goal_of(context.objective)
        if job.alone:
            found = TunedLabels(embed, read_prototypes(tuned.folder, len(context.labels)))
            parts = held_out_groups(context.train, context.objective.seed)
            return fit_label_set_head(context.train, parts, context.labels, seed, goal, found), None
        head, factor = fit_floor(context.train, context.labels, seed, embed=reading), 1.0
        learn, held_out = hold_out(context.train, context.objective.seed)
        if len({row.answer for row in learn}) >= _FEWEST:
            factor = sureness(fit_floor(learn, context.labels, seed, embed=reading), learn, held_out)
        head = scaled(head, factor)
        if not scoped:
            return head, None
        return with_references(head, context.train), _trial(context, seed, reading, factor) if context.leaves_labels_out else None
    finally:
        encoder.forget(tuned.folder)


def _trial(context: RungContext, seed: int, embed: Embed, factor: float) -> ScopeTrial | None:
    """Scorers compared on heads that are as sure as the one that is released: which of them tells best depends on that."""
    context.progress("leaving labels out, to choose what tells requests out of scope")

    def fit(rows: Sequence[Row], labels: Sequence[str]) -> FloorModel:
        return scaled(fit_floor(rows, labels, seed, embed=embed), factor)

    return trial_of(fit, (context.train, context.dev), context.labels, context.objective.business.risk.confidence)


def sureness(partial: FloorModel, learn: Sequence[Row], held_out: Sequence[Row]) -> float:
    """The factor of log-odds (temperature scaling, Guo et al. 2017, arXiv 1706.04599) with which ``partial``, fitted to ``learn`` alone,
    gives the rows held out the highest likelihood.

    Rows of a label that ``learn`` never shows tell nothing of it; 1 where no others are held out.
    """
    seen = {row.answer for row in learn}
    asked = [row for row in held_out if row.answer in seen]
    if not asked:
        return 1.0
    texts, places = [row.text for row in asked], [partial.labels.index(row.answer) for row in asked]
    nats_BK = partial.linear.log_probabilities(texts, partial.embed(texts) if partial.embed else None)
    return max(_FACTORS, key=lambda each: _likelihood(each * nats_BK, places))


def scaled(head: FloorModel, factor: float) -> FloorModel:
    """``head`` with its log-odds times ``factor``. No answer changes."""
    if factor == 1.0:
        return head
    linear = replace(head.linear, weights_KF=factor * head.linear.weights_KF, intercepts_K=factor * head.linear.intercepts_K)
    return replace(head, linear=linear)


def _likelihood(scores_BK: NDArray[np.float64], places: Sequence[int]) -> float:
    """Mean log-probability (nats) of the labels at ``places``."""
    highest_B1 = scores_BK.max(axis=1, keepdims=True)
    totals_B = np.log(np.exp(scores_BK - highest_B1).sum(axis=1)) + highest_B1[:, 0]
    return float((scores_BK[np.arange(len(places)), places] - totals_B).mean())


def _stored(context: RungContext, head: FloorModel, tuned: Path) -> Digest:
    """Head and encoder as one artifact."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(tuned, Path(folder) / ENCODER, ignore=shutil.ignore_patterns(PROTOTYPES))
        write_linear(head.linear, Path(folder))
        return context.artifacts.put_tree(Path(folder))
