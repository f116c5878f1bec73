"""Head of a tuned encoder where an item may bear several labels: what words say and what the encoder learned, added.

The encoder has learned the rows of train, whose vectors tell their labels better than those of new texts do: a regression fitted to
them, and thresholds chosen on them, would trust the vectors too much (docs/decisions/0112). So the prototypes judge that were tuned with
the encoder, and how much they count beside a regression over words, how sure both are, and from which probability a label is given is
chosen on rows, whole groups of them, that neither has learned (docs/decisions/0115).
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.ports.trainer import LabelledText
from tailorbird.rungs.context import hold_out
from tailorbird.rungs.floor import VARIANT_WITH_VECTORS, Embed, FloorModel, fit_floor
from tailorbird.rungs.label_thresholds import GOALS, fitting_thresholds, label_calibrations, placed
from tailorbird.text.label_rules import THRESHOLD, LabelPrototypes, split
from tailorbird.text.linear_classifier import Floats

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
    taught_MK, borne_NK = _borne(learn, labels), _borne(held_out, labels)
    fitted_K: NDArray[np.bool_] = np.any(taught_MK, axis=0) & ~np.all(taught_MK, axis=0)
    if not borne_NK[:, fitted_K].any():
        return fit_floor(rows, labels, seed, many=True, embed=tuned.embed, goal=goal)
    started, texts = time.perf_counter(), [row.text for row in held_out]
    by_words_NK = _log_odds(fit_floor(learn, labels, seed, many=True, goal=goal).linear.log_probabilities(texts))
    by_vectors_NK = tuned.prototypes.log_odds(tuned.embed(texts))
    chosen = _chosen(by_words_NK[:, fitted_K], by_vectors_NK[:, fitted_K], borne_NK[:, fitted_K], goal)
    whole = fit_floor(rows, labels, seed, many=True, goal=goal)
    words_K = placed((1 - chosen.share) * chosen.slopes_K, fitted_K, 1.0)
    vectors_K = placed(chosen.share * chosen.slopes_K, fitted_K, 0.0)
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


def _borne(rows: Sequence[Row], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which of ``labels`` each of ``rows`` bears."""
    found = [[label in split(row.answer) for label in labels] for row in rows]
    return np.array(found, dtype=bool).reshape(len(rows), len(labels))


@dataclass(frozen=True)
class _Chosen:
    share: float
    slopes_K: Floats
    offsets_K: Floats
    thresholds: tuple[float, ...]
    reached: float


def _chosen(by_words_NK: Floats, by_vectors_NK: Floats, borne_NK: NDArray[np.bool_], goal: str) -> _Chosen:
    """The share of the encoder with which the goal is highest on rows that neither has learned; of several, the middle one."""
    tried = [_calibrated(share, by_words_NK, by_vectors_NK, borne_NK, goal) for share in _SHARES]
    highest = max(each.reached for each in tried)
    best = [each for each in tried if each.reached >= highest]
    return best[len(best) // 2]


def _calibrated(share: float, by_words_NK: Floats, by_vectors_NK: Floats, borne_NK: NDArray[np.bool_], goal: str) -> _Chosen:
    odds_NK = np.clip((1 - share) * by_words_NK + share * by_vectors_NK, -_MOST, _MOST)
    slopes_K, offsets_K = label_calibrations(odds_NK, borne_NK)
    probabilities_NK = np.exp(-np.logaddexp(0.0, -(odds_NK * slopes_K + offsets_K)))
    thresholds = fitting_thresholds(probabilities_NK, borne_NK, goal)
    given_NK = probabilities_NK >= np.asarray(thresholds or THRESHOLD)
    return _Chosen(share, slopes_K, offsets_K, thresholds, GOALS[goal](given_NK, borne_NK.astype(float)))


def _log_odds(nats_NK: Floats) -> Floats:
    """From log-probabilities."""
    bounded: Floats = np.minimum(nats_NK, -_LEAST)
    found: Floats = bounded - np.log(-np.expm1(bounded))
    return found
