"""Scores of a prompt on rows held out of train, and the probability thresholds chosen by them where an item bears several labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tailorbird.chat.conversations import as_line, last_user_turn, shown_answer
from tailorbird.chat.prompts import messages_for_row
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import EVERYONE, Row
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.prompt import Entry, Message, PromptSpec, Retrieval, Sampling
from tailorbird.ports.engine import Engine
from tailorbird.rungs.context import RungContext, local_retrieval
from tailorbird.text.label_rules import THRESHOLD, decide_label, split, without_priors
from tailorbird.text.words import token_f1

#: Everybody's access: what may be shown to anybody may be learned from and measured with.
ANYBODY = frozenset({EVERYONE})


def held_out_score(context: RungContext, prompt: PromptSpec, rows: Sequence[Row], retrieval: Retrieval | None = None) -> float:
    """Mean log-probability of the target (classify, nats), or mean overlap with it (generate)."""
    servable = trial_servable(context, prompt, retrieval)
    engine = context.engine()
    engine.load(servable)
    try:
        return fmean(_target_scores(engine, servable, rows))
    finally:
        engine.unload(servable.id)


def trial_servable(context: RungContext, prompt: PromptSpec, retrieval: Retrieval | None = None) -> Servable:
    """Base model behind a candidate prompt, as a servable."""
    local = local_retrieval(retrieval, context.artifacts) if retrieval else None
    return Servable(
        id=digest_of(prompt),
        tenant=context.objective.tenant,
        task=context.objective.task.kind,
        base=str(context.base_folder),
        adapter=None,
        weights=None,
        prompt=prompt,
        retrieval=local,
    )


def looked_up(engine: Engine, servable: Servable, texts: Sequence[str]) -> list[list[Entry]]:
    """Entries retrieved for each text, of those that anybody may read; none without retrieval."""
    if servable.retrieval is None:
        return [[] for _ in texts]
    found = engine.retrieve(servable.id, [last_user_turn(text) for text in texts], ANYBODY, servable.retrieval.spec.count)
    return [[one.entry for one in each] for each in found]


def answer_scores(engine: Engine, servable: Servable, rows: Sequence[Row], contexts: Sequence[Sequence[Entry]]) -> list[Sequence[float]]:
    """Log-probabilities of ``prompt.answers`` for each row, as the engine gives them; ``contexts`` is what was looked up for the rows."""
    prompts = [messages_for_row(servable.prompt, row.text, context) for row, context in zip(rows, contexts, strict=True)]
    return [one.log_probabilities for one in engine.score(servable.id, prompts, servable.prompt.answers)]


def _target_scores(engine: Engine, servable: Servable, rows: Sequence[Row]) -> list[float]:
    contexts = looked_up(engine, servable, [row.text for row in rows])
    if servable.task is TaskKind.CLASSIFY:
        place = {answer: i for i, answer in enumerate(servable.prompt.answers)}
        adjusted = [without_priors(servable.prompt, found) for found in answer_scores(engine, servable, rows, contexts)]
        return [scores[place[row.answer]] for row, scores in zip(rows, adjusted, strict=True)]
    prompts = [messages_for_row(servable.prompt, row.text, context) for row, context in zip(rows, contexts, strict=True)]
    answers = engine.generate(servable.id, prompts, Sampling())
    said = [as_line(Message(role="assistant", content=answer.text, tool_calls=answer.tool_calls)) for answer in answers]
    return [token_f1(text, shown_answer(row.answer)) for row, text in zip(rows, said, strict=True)]


Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

#: Thresholds that are tried: evenly in log-odds.
GRID = tuple(round(float(p), 4) for p in 1 / (1 + np.exp(-np.linspace(-6, 6, 49))))
#: Labels that the items must bear in all: fewer tell nothing.
FEWEST = 4
#: Standard deviation of slope and offset around "as it is" before the rows are seen, and of a label's own around those of all labels.
_SPREAD, _SPREAD_OF_LABELS = 2.0, 0.5
_AS_IT_IS = np.array([1.0, 0.0])
#: A label whose log-odds say nothing, or the opposite, keeps this much of them.
_LEAST_SLOPE = 0.05
_LEAST = 1e-9


def _micro_f1(given_NK: Marks, borne_NK: Floats) -> float:
    total = given_NK.sum() + borne_NK.sum()
    return float(2 * borne_NK[given_NK].sum() / total) if total else 1.0


def _macro_f1(given_NK: Marks, borne_NK: Floats) -> float:
    """Over the labels that occur among the items or are given."""
    total_K = given_NK.sum(axis=0) + borne_NK.sum(axis=0)
    occurs_K = total_K > 0
    hits_K = (given_NK * borne_NK).sum(axis=0)
    return float(np.mean(2 * hits_K[occurs_K] / total_K[occurs_K])) if occurs_K.any() else 1.0


def _exact_match(given_NK: Marks, borne_NK: Floats) -> float:
    return float(np.where(given_NK, borne_NK, 1 - borne_NK).prod(axis=1).mean())


#: What may be asked for, as KPIs name it, of labels that are given and the probabilities that they are borne (0 or 1 where that is known;
#: else expected values, labels taken as independent, F1 as the ratio of expectations).
GOALS: Mapping[str, Callable[[Marks, Floats], float]] = {"micro_f1": _micro_f1, "macro_f1": _macro_f1, "exact_match": _exact_match}


def fitting_thresholds(probabilities_NK: Floats, borne_NK: Marks, goal: str) -> tuple[float, ...]:
    """The threshold of each label at which the expected ``goal`` (a key of ``GOALS``) is highest; empty: a half for all of them.

    A half where nothing is better, or where the items bear fewer than four labels in all. Of several that are best the middle one is taken,
    the farthest from any change.

    F1 is highest when labels are given from a probability of half of that F1 on (Lipton et al. 2014, arXiv 1402.1892): never more than a
    half, and far less where labels are rare or hard to tell. Few held-out rows bear any label, so counting what each threshold would have
    reached on them is mostly chance. Instead their labels calibrate the probabilities (logistic regression on the log-odds: Platt 1999),
    and the threshold with the highest expected value is taken. Macro-F1 is a mean over labels, so each of them has the threshold that its
    own F1 asks for; one serves all labels where they count together, and for a label that hardly any held-out row bears.
    """
    if borne_NK.sum() < FEWEST:
        return ()
    likely_NK = _calibrated(probabilities_NK, borne_NK)
    shared = _best(GOALS[goal], probabilities_NK, likely_NK)
    bounds_K = np.full(probabilities_NK.shape[1], shared)
    if goal == "macro_f1":
        for place in np.flatnonzero(borne_NK.sum(axis=0) >= FEWEST):
            bounds_K[place] = _best(_micro_f1, probabilities_NK[:, [place]], likely_NK[:, [place]])
    return () if (bounds_K == THRESHOLD).all() else tuple(float(bound) for bound in bounds_K)


def _best(reach: Callable[[Marks, Floats], float], probabilities_NK: Floats, likely_NK: Floats) -> float:
    expected = np.array([reach(probabilities_NK >= bound, likely_NK) for bound in GRID])
    highest = expected.max() - _LEAST
    if reach(probabilities_NK >= THRESHOLD, likely_NK) >= highest:
        return THRESHOLD
    best = np.flatnonzero(expected >= highest)
    return GRID[int(best[len(best) // 2])]


def _calibrated(probabilities_NK: Floats, borne_NK: Marks) -> Floats:
    """The probabilities with slope and offset of their log-odds fitted to ``borne_NK``."""
    bounded = np.clip(probabilities_NK, _LEAST, 1 - _LEAST)
    odds_NK = np.log(bounded) - np.log1p(-bounded)
    slope, offset = _calibration(odds_NK.ravel(), borne_NK.ravel(), _AS_IT_IS, _SPREAD)
    return _logistic(slope * odds_NK + offset)


def label_calibrations(odds_NK: Floats, borne_NK: Marks) -> tuple[Floats, Floats]:
    """Slope and offset of each label's log-odds that make them fit ``borne_NK``, pulled towards those of all labels together: a label that
    few rows bear has nearly these."""
    shared = _calibration(odds_NK.ravel(), borne_NK.ravel(), _AS_IT_IS, _SPREAD)
    each = [_calibration(odds_N, borne_N, shared, _SPREAD_OF_LABELS) for odds_N, borne_N in zip(odds_NK.T, borne_NK.T, strict=True)]
    slopes_K, offsets_K = np.array(each).reshape(-1, 2).T
    return np.maximum(slopes_K, _LEAST_SLOPE), offsets_K


@dataclass(frozen=True)
class CalibratedLabels:
    """Slopes and offsets (K) of labels' log-odds, thresholds (empty: a half) and what the goal ``reached`` with them on the same rows."""

    slopes_K: Floats
    offsets_K: Floats
    thresholds: tuple[float, ...]
    reached: float


def calibrated_labels(odds_NK: Floats, borne_NK: Marks, goal: str) -> CalibratedLabels:
    """What serves ``goal`` (a key of ``GOALS``) best on rows that were left out."""
    slopes_K, offsets_K = label_calibrations(odds_NK, borne_NK)
    probabilities_NK = np.exp(-np.logaddexp(0.0, -(odds_NK * slopes_K + offsets_K)))
    thresholds = fitting_thresholds(probabilities_NK, borne_NK, goal)
    given_NK = probabilities_NK >= np.asarray(thresholds or THRESHOLD)
    reached = GOALS[goal](given_NK, borne_NK.astype(float)) if len(odds_NK) else 0.0
    return CalibratedLabels(slopes_K, offsets_K, thresholds, reached)


def borne_labels(rows: Sequence[Row], labels: Sequence[str]) -> Marks:
    """Which of ``labels`` each of ``rows`` bears."""
    targets = [set(split(row.answer)) for row in rows]
    return np.array([[label in target for label in labels] for target in targets], dtype=bool).reshape(len(rows), len(labels))


def placed(found: Floats, fitted_K: Marks, otherwise: float) -> Floats:
    """What was found of the labels that were fitted, and ``otherwise`` for the others."""
    whole_K = np.full(len(fitted_K), otherwise)
    whole_K[fitted_K] = found
    return whole_K


def _calibration(odds_M: Floats, borne_M: Marks, centre: Floats, spread: float) -> Floats:
    """Slope and offset fitted to ``borne_M`` and pulled towards ``centre`` (Newton's method, steps of at most 1)."""
    inputs_M2, marked_M = np.stack([odds_M, np.ones_like(odds_M)], axis=1), borne_M.astype(float)
    fitted, precision = centre.copy(), np.eye(2) / spread**2
    for _ in range(100):
        likely_M = _logistic(inputs_M2 @ fitted)
        gradient = inputs_M2.T @ (likely_M - marked_M) + precision @ (fitted - centre)
        curvature = (inputs_M2 * (likely_M * (1 - likely_M))[:, None]).T @ inputs_M2 + precision
        step = np.linalg.solve(curvature, gradient)
        fitted = fitted - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < _LEAST:
            break
    return fitted


def _logistic(odds: Floats) -> Floats:
    likely: Floats = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
    return likely


#: Rows asked for at a time, so that the progress shows.
_AT_ONCE = 100


def with_thresholds(context: RungContext, servable: Servable, rows: Sequence[Row]) -> PromptSpec:
    """The prompt of ``servable`` with the threshold that serves the objective's first KPI best on ``rows``; as it is where an item bears
    one label, and where no threshold is better than a half."""
    if not servable.prompt.label_sets or not rows:
        return servable.prompt
    context.progress(f"choosing on {len(rows)} held-out rows from which probability a label is given")
    return thresholds_on(context, servable.prompt, rows, _scores(context, servable, rows))


def thresholds_on(context: RungContext, prompt: PromptSpec, rows: Sequence[Row], scores: Sequence[Sequence[float]]) -> PromptSpec:
    """As ``with_thresholds``, by log-probabilities of ``prompt.answers`` (nats) for each row that are there already."""
    if not prompt.label_sets or not rows:
        return prompt
    probabilities_NK = np.array([list(decide_label(prompt, found).probabilities.values()) for found in scores])
    bounds = fitting_thresholds(probabilities_NK, borne_labels(rows, prompt.labels), goal_of(context.objective))
    if not bounds:
        return prompt
    found = f"{min(bounds):g}" if min(bounds) == max(bounds) else f"{min(bounds):g} to {max(bounds):g}, by label,"
    context.progress(f"a label is given from a probability of {found} on, not from a half")
    return prompt.model_copy(update={"thresholds": bounds})


def _scores(context: RungContext, servable: Servable, rows: Sequence[Row]) -> list[Sequence[float]]:
    engine, scores = context.engine(), list[Sequence[float]]()
    kin: dict[str, set[str]] = defaultdict(set)
    for row in context.train if servable.retrieval else ():
        kin[row.group].add(row.id)
    engine.load(servable)
    try:
        for start in range(0, len(rows), _AT_ONCE):
            part = rows[start : start + _AT_ONCE]
            scores += answer_scores(engine, servable, part, [_others(engine, servable, row, kin[row.group]) for row in part])
    finally:
        engine.unload(servable.id)
    return scores


def goal_of(objective: Objective) -> str:
    """Metric that thresholds optimise: the first KPI over all labels; micro-F1 where every KPI is of one label, or of something else."""
    return next((kpi.metric for kpi in objective.kpis if kpi.metric in GOALS), "micro_f1")


def _others(engine: Engine, servable: Servable, row: Row, kin: Collection[str]) -> list[Entry]:
    """What is looked up for a training row, without the rows of its group: a text that is served does not stand in the index."""
    if servable.retrieval is None:
        return []
    count = servable.retrieval.spec.count
    [found] = engine.retrieve(servable.id, [last_user_turn(row.text)], ANYBODY, count + len(kin))
    return [one.entry for one in found if one.entry.id not in kin][:count]
