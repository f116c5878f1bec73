"""Rung ``encoder``: a sentence encoder tuned so that texts of one label lie together, and a linear head over its vectors.

Where an item bears one label the head compares a text's vector with one that stands for each label, and several encoders are averaged
(docs/decisions/0114). The artifact is the floor's: a linear model with the encoder that it reads (``text/linear_classifier.py``), which the
engine serves as it serves a floor (docs/decisions/0094); or with an adapter of the encoder, which many share (docs/decisions/0118).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import Internal
from tailorbird.domain.ladder import AVERAGED_ENCODERS, ENCODER_PARTS, Candidate
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.scope import ScopeTrial
from tailorbird.domain.value import Digest
from tailorbird.ports.encoder import Vectors
from tailorbird.ports.trainer import LabelJob, LabelledText, TrainedModel
from tailorbird.rungs.context import RungContext, RungResult, TrainedFiles, hold_out
from tailorbird.rungs.floor import Embed, FloorModel
from tailorbird.rungs.label_set_head import TunedLabels, fit_label_set_head, held_out_groups, label_set_texts
from tailorbird.rungs.label_thresholds import goal_of
from tailorbird.rungs.scope import Fit, remembered, trial_of, with_references
from tailorbird.rungs.trained_files import trained_files
from tailorbird.text.label_rules import LEFT_OUT, PROTOTYPES, LabelPrototypes, read_left_out, read_prototypes
from tailorbird.text.linear_classifier import ADAPTER, ENCODER, write_linear

PROTOTYPES_VARIANT = "prototypes of labels"
#: Factors of log-odds that are tried.
_FACTORS = tuple(map(float, np.geomspace(0.2, 5.0, 65)))


def make_encoder(context: RungContext) -> RungResult:
    """Tunes the encoder, or reuses a finished tuning of the same job, and fits the head. Raises what the trainer and the floor raise."""
    started, job = time.perf_counter(), encoder_job(context)

    def tune() -> TrainedModel:
        context.progress(f"tuning the encoder on {len(job.train)} rows, {len(job.held_out)} held out")
        return context.trainer().tune(job, context.report)

    tuned = trained_files(context, job, tune)
    # A tuning that was resumed took more than what passed here.
    took, fitting = max(tuned.seconds, time.perf_counter() - started), time.perf_counter()
    context.progress("fitting the head")
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
        floor=_stored(context, head, tuned.folder, ADAPTER if job.settings.lora else ENCODER),
        tuned=tuned.tree,
        encoder=context.plan.encoder if job.settings.lora else None,
        trained_parameters=tuned.report.trained_parameters + head.parameters,
        seed=job.settings.seed,
    )
    seconds = took + time.perf_counter() - fitting
    return RungResult(candidate, seconds, 0.0 if tuned.reused else tuned.report.peak_memory_gb, tuned, scope=trial)


def encoder_job(context: RungContext) -> LabelJob:
    """What the trainer is asked: train, less the rows held out, or with the encoder that lacks each row."""
    settings, encoder = context.plan.training, context.plan.encoder
    if settings is None or encoder is None or context.encoder_folder is None:
        raise Internal("the plan of the encoder has no training settings, or no encoder", "plan the climb again", code="plan_incomplete")
    many, parts = context.objective.task.labels == "many", tuple[int, ...]()
    if many:
        learn, held_out = label_set_texts(context.train, context.objective.seed)
    else:
        (learn, parts), held_out = averaged_rows(context.train, context.labels, settings.seed), ()
    return LabelJob(
        base=context.encoder_folder,
        base_digest=encoder,
        snapshot=context.snapshot,
        settings=settings,
        labels=context.labels,
        alone=many,
        train=learn,
        held_out=held_out,
        parts=parts,
        workspace=context.workspace,
        seal_key="" if many else context.seal_key,
        results=context.results,
    )


def averaged_rows(train: Sequence[Row], labels: Sequence[str], seed: int) -> tuple[tuple[LabelledText, ...], tuple[int, ...]]:
    """What is learned of one label an item, and the encoder that lacks each text (-1: none): the rows, and the name of each label as one
    more text that bears it, which tells most where rows are few. Raises as ``parts_of``."""
    rows = sorted(train, key=lambda row: row.id)
    texts = [LabelledText(text=row.text, labels=(row.answer,)) for row in rows]
    names = [LabelledText(text=label.replace("_", " "), labels=(label,)) for label in labels]
    return (*texts, *names), (*parts_of(rows, seed), *[-1] * len(names))


def parts_of(rows: Sequence[Row], seed: int) -> list[int]:
    """The encoder that lacks each row; -1: none. A group is of one part. All learn the groups of more than two parts' share of the rows,
    unless they are all but one; the others go to the part with the fewest rows, those of more than one part's share first, then label by
    label, in the order of the hashes of ``seed`` and group. Lacked are the parts nearest in size to the mean. Raises DataInvalid when all
    rows are of one group."""
    first, sizes = dict[str, str](), Counter(row.group for row in rows)
    for row in rows:
        first.setdefault(row.group, row.answer)
    if len(first) < 2:
        hold_out(rows, seed)
    share = len(rows) / ENCODER_PARTS
    most = 2 * share
    while sum(size <= most for size in sizes.values()) < 2:
        most *= 2
    hashes = {group: hashlib.sha256(f"{seed}:{group}".encode()).digest() for group in sizes}
    dealt = sorted((group for group in sizes if sizes[group] <= most), key=lambda each: (sizes[each] <= share, first[each], hashes[each]))
    loads, places = [0] * ENCODER_PARTS, dict[str, int]()
    for group in dealt:
        places[group] = loads.index(min(loads))
        loads[places[group]] += sizes[group]
    mean = sum(loads) / ENCODER_PARTS
    lacked = sorted((place for place in range(ENCODER_PARTS) if loads[place]), key=lambda place: abs(loads[place] - mean))
    parts = {place: part for part, place in enumerate(lacked[:AVERAGED_ENCODERS])}
    return [parts.get(places.get(row.group, -1), -1) for row in rows]


def _head(context: RungContext, job: LabelJob, tuned: TrainedFiles) -> tuple[FloorModel, ScopeTrial | None]:
    """What turns vectors into answers, and how scorers of scope did on labels that heads were fitted without. The encoder has learned these
    labels: they look better than they are, and choose a scorer alone."""
    encoder = context.encoder()

    whole, adapter = (job.base, tuned.folder) if job.settings.lora else (tuned.folder, None)

    def embed(texts: Sequence[str]) -> Vectors:
        return encoder.embed(whole, texts, adapter)

    try:
        if job.alone:
            seed, goal = job.settings.seed, goal_of(context.objective)
            found = TunedLabels(embed, read_prototypes(tuned.folder, len(context.labels)))
            parts = held_out_groups(context.train, context.objective.seed)
            return fit_label_set_head(context.train, parts, context.labels, seed, goal, found), None
        scoped = context.objective.task.out_of_scope is not None
        fit = prototype_fit(job, tuned.folder, remembered(embed) if scoped else embed)
        head = fit(context.train, context.labels)
        if not scoped:
            return head, None
        return with_references(head, context.train), _trial(context, fit) if context.leaves_labels_out else None
    finally:
        encoder.forget(whole)


def prototype_fit(job: LabelJob, folder: Path, embed: Embed) -> Fit:
    """Gives the head for some of the job's labels, of what its tuning left in ``folder``.

    It tells cosines with their prototypes, times the factor that gives each row the highest likelihood as the encoder that had not learned
    it saw it (temperature scaling, Guo et al. 2017, arXiv 1706.04599). The mean of the encoders has learned more than each of them. Raises
    ModelInvalid.
    """
    started, found = time.perf_counter(), read_prototypes(folder, len(job.labels))
    rows = [place for place, part in enumerate(job.parts) if part >= 0]
    nats_BK = read_left_out(folder, len(job.parts), len(job.labels))[rows]
    factor = sureness(nats_BK, [job.labels.index(job.train[row].labels[0]) for row in rows])

    def fit(_rows: Sequence[Row], labels: Sequence[str]) -> FloorModel:
        places = [job.labels.index(label) for label in labels]
        chosen = LabelPrototypes(found.weights_KH[places], found.intercepts_K[places])
        linear, took = chosen.classifier(labels, factor), time.perf_counter() - started
        return FloorModel(tuple(labels), chosen.weights_KH.size, took, linear, PROTOTYPES_VARIANT, embed)

    return fit


def _trial(context: RungContext, fit: Fit) -> ScopeTrial | None:
    """Scorers compared on heads that are as sure as the one that is released: which of them tells best depends on that."""
    context.progress("leaving labels out, to choose what tells requests out of scope")
    return trial_of(fit, (context.train, context.dev), context.labels, context.objective.business.risk.confidence)


def sureness(nats_BK: NDArray[np.float64], places: Sequence[int]) -> float:
    """The factor of log-odds with which scores of rows (B, K) give their labels, at ``places``, the highest likelihood."""
    return max(_FACTORS, key=lambda each: _likelihood(each * nats_BK, places))


def _likelihood(scores_BK: NDArray[np.float64], places: Sequence[int]) -> float:
    """Mean log-probability (nats) of the labels at ``places``."""
    highest_B1 = scores_BK.max(axis=1, keepdims=True)
    totals_B = np.log(np.exp(scores_BK - highest_B1).sum(axis=1)) + highest_B1[:, 0]
    return float((scores_BK[np.arange(len(places)), places] - totals_B).mean())


def _stored(context: RungContext, head: FloorModel, tuned: Path, name: str) -> Digest:
    """Head and encoder, or the adapter of one that the release names, as one artifact."""
    with tempfile.TemporaryDirectory() as folder:
        # What encoders said of training rows is no part of a release.
        shutil.copytree(tuned, Path(folder) / name, ignore=shutil.ignore_patterns(PROTOTYPES, LEFT_OUT))
        write_linear(head.linear, Path(folder))
        return context.artifacts.put_tree(Path(folder))
