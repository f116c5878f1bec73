"""Scores of a prompt on rows held out of train, and the probability thresholds chosen by them where an item bears several labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import EVERYONE, Row
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.domain.retrieval import Entry, Retrieval
from tailorbird.ports.engine import Engine
from tailorbird.rungs.context import RungContext
from tailorbird.rungs.indexes import local_retrieval
from tailorbird.text.conversations import last_user_turn
from tailorbird.text.label_decision import THRESHOLD, decide_label, without_priors
from tailorbird.text.label_sets import split
from tailorbird.text.prompt_rendering import messages_for_row
from tailorbird.text.text_metrics import token_f1

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
        return [scores[place[row.target]] for row, scores in zip(rows, adjusted, strict=True)]
    prompts = [messages_for_row(servable.prompt, row.text, context) for row, context in zip(rows, contexts, strict=True)]
    answers = engine.generate(servable.id, prompts, Sampling())
    return [token_f1(answer.text, row.target) for row, answer in zip(rows, answers, strict=True)]


Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

#: Thresholds that are tried: evenly in log-odds.
GRID = tuple(round(float(p), 4) for p in 1 / (1 + np.exp(-np.linspace(-6, 6, 49))))
#: Labels that the items must bear in all: fewer tell nothing.
FEWEST = 4
#: Standard deviation of the two numbers around "as it is" (slope 1, offset 0) before the rows are seen.
_SPREAD = 2.0
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


def fitting_threshold(probabilities_NK: Floats, borne_NK: Marks, goal: str) -> float:
    """The threshold at which the expected ``goal`` (a key of ``GOALS``) is highest.

    A half where nothing is better, or where the items bear fewer than four labels in all. Of several that are best the middle one is taken,
    the farthest from any change.

    F1 is highest when labels are given from a probability of half of that F1 on (Lipton et al. 2014, arXiv 1402.1892): never more than a
    half, and far less where labels are rare or hard to tell. Few held-out rows bear any label, so counting what each threshold would have
    reached on them is mostly chance. Instead their labels calibrate the probabilities (logistic regression on the log-odds: Platt 1999),
    and the threshold with the highest expected value is taken. One serves all labels: most occur too seldom among held-out rows to bear
    one of their own.
    """
    if borne_NK.sum() < FEWEST:
        return THRESHOLD
    likely_NK = _calibrated(probabilities_NK, borne_NK)
    expected = np.array([GOALS[goal](probabilities_NK >= bound, likely_NK) for bound in GRID])
    highest = expected.max() - _LEAST
    if GOALS[goal](probabilities_NK >= THRESHOLD, likely_NK) >= highest:
        return THRESHOLD
    best = np.flatnonzero(expected >= highest)
    return GRID[int(best[len(best) // 2])]


def _calibrated(probabilities_NK: Floats, borne_NK: Marks) -> Floats:
    """The probabilities with slope and offset of their log-odds fitted to ``borne_NK`` (Newton's method, steps of at most 1)."""
    bounded = np.clip(probabilities_NK, _LEAST, 1 - _LEAST)
    odds_M = (np.log(bounded) - np.log1p(-bounded)).ravel()
    inputs_M2, borne_M = np.stack([odds_M, np.ones_like(odds_M)], axis=1), borne_NK.ravel().astype(float)
    as_it_is = np.array([1.0, 0.0])
    fitted, precision = as_it_is.copy(), np.eye(2) / _SPREAD**2
    for _ in range(100):
        likely_M = _logistic(inputs_M2 @ fitted)
        gradient = inputs_M2.T @ (likely_M - borne_M) + precision @ (fitted - as_it_is)
        curvature = (inputs_M2 * (likely_M * (1 - likely_M))[:, None]).T @ inputs_M2 + precision
        step = np.linalg.solve(curvature, gradient)
        fitted = fitted - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < _LEAST:
            break
    return _logistic(inputs_M2 @ fitted).reshape(probabilities_NK.shape)


def _logistic(odds: Floats) -> Floats:
    likely: Floats = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
    return likely


#: Rows asked for at a time, so that the progress shows.
_AT_ONCE = 100


def with_thresholds(context: RungContext, servable: Servable, rows: Sequence[Row]) -> PromptSpec:
    """The prompt of ``servable`` with the threshold that serves the objective's first KPI best on ``rows``; as it is where an item bears
    one label, and where no threshold is better than a half."""
    prompt = servable.prompt
    if not prompt.label_sets or not rows:
        return prompt
    context.progress(f"choosing on {len(rows)} held-out rows from which probability a label is given")
    probabilities_NK = np.array([list(decide_label(prompt, found).probabilities.values()) for found in _scores(context, servable, rows)])
    borne_NK = np.array([[label in split(row.target) for label in prompt.labels] for row in rows], dtype=bool)
    bound = fitting_threshold(probabilities_NK, borne_NK, goal_of(context.objective))
    if bound == THRESHOLD:
        return prompt
    context.progress(f"a label is given from a probability of {bound:g} on, not from a half")
    return prompt.model_copy(update={"thresholds": (bound,) * len(prompt.labels)})


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
