"""Head of a tuned encoder where an item may bear several labels: what words say and what the encoder learned, added.

The encoder has learned the rows of train, whose vectors tell their labels better than those of new texts do: a regression fitted to
them, and thresholds chosen on them, would trust the vectors too much. So the prototypes judge that were tuned with
the encoder, and how much they count beside a regression over words, how sure both are, and from which probability a label is given is
chosen on rows, whole groups of them, that neither has learned.

Rung ``encoder``: a sentence encoder tuned so that texts of one label lie together, and a linear head over its vectors.

Where an item bears one label the head compares a text's vector with one that stands for each label, and several encoders are averaged.
The artifact is the floor's: a linear model with the encoder that it reads (``text/linear_classifier.py``), which the engine
serves as it serves a floor; or with an adapter of the encoder, which many share.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import Internal
from tailorbird.domain.evidence import ScopeTrial
from tailorbird.domain.ladder import AVERAGED_ENCODERS, ENCODER_PARTS
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.value import Digest
from tailorbird.ports.encoder import Vectors
from tailorbird.ports.trainer import LabelJob, LabelledText, TrainedModel
from tailorbird.rungs.context import RungContext, RungResult, TrainedFiles, candidate_of, hold_out, trained_files
from tailorbird.rungs.floor import VARIANT_WITH_VECTORS, Embed, Fit, FloorModel, fit_floor, remembered, trial_of, with_references
from tailorbird.rungs.label_thresholds import CalibratedLabels, borne_labels, calibrated_labels, goal_of, placed
from tailorbird.text.label_rules import LEFT_OUT, PROTOTYPES, THRESHOLD, LabelPrototypes, read_left_out, read_prototypes, split
from tailorbird.text.linear_classifier import ADAPTER, ENCODER, Floats, write_linear

#: Share of the rows, by whole groups, that is held out of the tuning: fewer documents tell no threshold.
HELD_OUT, _ENOUGH = 0.2, 5_000
#: How much the encoder's log-odds may count beside those of words.
_SHARES = (0.25, 0.5, 0.75, 1.0)
#: Log-odds at most, where something is fitted to them.
_MOST = 12.0
_LEAST = 1e-12


def held_out_groups(rows: Sequence[Row], seed: int) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Splits ``rows`` into (to tune the encoder on, to choose by), by whole groups: a fifth of the rows that bear a label, with all rows of
    their groups, and a fifth of the groups that bear none. What is tuned on keeps a group of every label, wherever another one can be held
    out. Raises as ``hold_out``."""
    bearing = [row for row in rows if split(row.answer)]
    labelled = {row.group for row in bearing}
    chosen = set[str]()
    for part in (bearing, [row for row in rows if row.group not in labelled]):
        if len({row.group for row in part}) > 1:
            chosen |= {row.group for row in hold_out(part, seed, HELD_OUT, _ENOUGH)[1]}
    chosen = _sparing(bearing, chosen, seed)
    if not chosen:
        return hold_out(rows, seed, HELD_OUT, _ENOUGH)
    order = sorted(rows, key=lambda row: row.id)
    return tuple(row for row in order if row.group not in chosen), tuple(row for row in order if row.group in chosen)


def _sparing(bearing: Sequence[Row], chosen: set[str], seed: int) -> set[str]:
    """``chosen`` without the group that bears most rows of each label that no other group would teach, and where some were taken out with
    others that can be spared, in the order of the hashes of ``seed`` and group, those that are large last."""
    groups, sizes = defaultdict[str, Counter[str]](Counter), Counter(row.group for row in bearing)
    for row in bearing:
        for label in split(row.answer):
            groups[label][row.group] += 1
    kept, hashes = set(chosen), {group: hashlib.sha256(f"{seed}:{group}".encode()).digest() for group in sizes}
    for label in sorted(groups):
        if groups[label].keys() <= kept:
            kept.remove(max(groups[label], key=lambda group: (groups[label][group], hashes[group])))
    if kept == chosen:
        return chosen
    total, held = len(bearing), sum(sizes[group] for group in kept)
    for group in sorted(sizes.keys() - kept, key=lambda group: (sizes[group] > 2 * HELD_OUT * total, hashes[group])):
        spared = all(own.keys() - kept - {group} for own in groups.values() if group in own)
        if spared and held < HELD_OUT * total and held + sizes[group] <= total / 2:
            kept.add(group)
            held += sizes[group]
    return kept


def label_set_texts(rows: Sequence[Row], seed: int) -> tuple[tuple[LabelledText, ...], tuple[LabelledText, ...]]:
    """The same as texts for the trainer. Of those held out without a label at most so many judge as with one, in the order of hashes: where
    nine in ten bear none, they would take nine tenths of the time and tell the same thing. Raises as ``hold_out``."""
    learn, held_out = held_out_groups(rows, seed)
    bearing = [row for row in held_out if split(row.answer)]
    others = [row for row in held_out if not split(row.answer)][: max(len(bearing), 1)]
    return tuple(map(_labelled, learn)), tuple(map(_labelled, (*bearing, *others)))


def _labelled(row: Row) -> LabelledText:
    return LabelledText(text=row.text, labels=split(row.answer))


@dataclass(frozen=True)
class TunedLabels:
    """A tuned encoder: vectors of texts, and the prototypes that were tuned with it."""

    embed: Embed
    prototypes: LabelPrototypes


def fit_label_set_head(
    rows: Sequence[Row], parts: tuple[Sequence[Row], Sequence[Row]], labels: Sequence[str], seed: int, goal: str, tuned: TunedLabels
) -> FloorModel:
    """The head on ``rows``. ``parts`` are those that the encoder has learned and those that it has not; ``goal`` is a key of ``GOALS``.

    Raises what ``fit_floor`` raises. What was learned of a label that all rows of the first part bear, or none, says nothing of new texts:
    words alone judge it, as all rows teach them, and a half is its threshold. Where no row of the second part bears any other label
    nothing can be chosen: the head is then a floor's.
    """
    learn, held_out = parts
    taught_MK, borne_NK = borne_labels(learn, labels), borne_labels(held_out, labels)
    fitted_K: NDArray[np.bool_] = np.any(taught_MK, axis=0) & ~np.all(taught_MK, axis=0)
    if not borne_NK[:, fitted_K].any():
        return fit_floor(rows, labels, seed, many=True, embed=tuned.embed, goal=goal)
    started, texts = time.perf_counter(), [row.text for row in held_out]
    # From log-probabilities.
    nats_NK = fit_floor(learn, labels, seed, many=True, goal=goal).linear.log_probabilities(texts)
    bounded: Floats = np.minimum(nats_NK, -_LEAST)
    found: Floats = bounded - np.log(-np.expm1(bounded))
    by_words_NK = found
    by_vectors_NK = tuned.prototypes.log_odds(tuned.embed(texts))
    share, chosen = _chosen(by_words_NK[:, fitted_K], by_vectors_NK[:, fitted_K], borne_NK[:, fitted_K], goal)
    whole = fit_floor(rows, labels, seed, many=True, goal=goal)
    words_K = placed((1 - share) * chosen.slopes_K, fitted_K, 1.0)
    vectors_K = placed(share * chosen.slopes_K, fitted_K, 0.0)
    offsets_K = placed(chosen.offsets_K, fitted_K, 0.0)
    weights = (words_K[:, None] * whole.linear.weights_KF, vectors_K[:, None] * tuned.prototypes.weights_KH)
    linear = replace(
        whole.linear,
        weights_KF=np.concatenate(weights, axis=1),
        intercepts_K=words_K * whole.linear.intercepts_K + vectors_K * tuned.prototypes.intercepts_K + offsets_K,
        width=tuned.prototypes.weights_KH.shape[1],
    )
    parameters = int(linear.weights_KF.size + linear.intercepts_K.size)
    bounds = tuple(placed(np.array(chosen.thresholds), fitted_K, THRESHOLD).tolist()) if chosen.thresholds else ()
    return FloorModel(tuple(labels), parameters, time.perf_counter() - started, linear, VARIANT_WITH_VECTORS, tuned.embed, bounds)


def _chosen(by_words_NK: Floats, by_vectors_NK: Floats, borne_NK: NDArray[np.bool_], goal: str) -> tuple[float, CalibratedLabels]:
    """The share of the encoder with which the goal is highest on rows that neither has learned; of several, the middle one."""
    odds = {share: np.clip((1 - share) * by_words_NK + share * by_vectors_NK, -_MOST, _MOST) for share in _SHARES}
    tried = [(share, calibrated_labels(odds_NK, borne_NK, goal)) for share, odds_NK in odds.items()]
    highest = max(found.reached for _, found in tried)
    best = [one for one in tried if one[1].reached >= highest]
    return best[len(best) // 2]


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
    candidate = candidate_of(
        context,
        PromptSpec(
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
