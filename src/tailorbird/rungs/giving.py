"""From which probability each label is given, where an item may bear several: chosen on rows held out of train, and kept in the prompt.

In: a servable whose weights are made, training rows held out of it. Out: its prompt with thresholds. Must not know: dev and test rows, how
the candidate was made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from tailorbird.domain.dataset import Row
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import Objective
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.retrieval import Entry
from tailorbird.foundations.conversations import asked
from tailorbird.foundations.label_sets import split
from tailorbird.foundations.labelling import THRESHOLD, labelled
from tailorbird.foundations.thresholds import GOALS, fitting_threshold
from tailorbird.ports.engine import Engine
from tailorbird.rungs.context import RungContext
from tailorbird.rungs.trying import ANYBODY, answer_scores

#: Rows asked for at a time, so that the progress shows.
_AT_ONCE = 100


def with_thresholds(context: RungContext, servable: Servable, rows: Sequence[Row]) -> PromptSpec:
    """The prompt of ``servable`` with the threshold that serves the objective's first KPI best on ``rows``; as it is where an item bears
    one label, and where no threshold is better than a half."""
    prompt = servable.prompt
    if not prompt.label_sets or not rows:
        return prompt
    context.progress(f"choosing on {len(rows)} held-out rows from which probability a label is given")
    probabilities_NK = np.array([list(labelled(prompt, found).probabilities.values()) for found in _scores(context, servable, rows)])
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
    """What thresholds serve: the first KPI over all labels; micro-F1 where every KPI is of one label, or of something else."""
    return next((kpi.metric for kpi in objective.kpis if kpi.metric in GOALS), "micro_f1")


def _others(engine: Engine, servable: Servable, row: Row, kin: Collection[str]) -> list[Entry]:
    """What is looked up for a training row, without the rows of its group: a text that is served does not stand in the index."""
    if servable.retrieval is None:
        return []
    count = servable.retrieval.spec.count
    [found] = engine.retrieve(servable.id, [asked(row.text)], ANYBODY, count + len(kin))
    return [one.entry for one in found if one.entry.id not in kin][:count]
