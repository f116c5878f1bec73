"""Scope of linear models: the vectors that requests are compared with, and scorers compared on labels that were left out of fitting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tailorbird.domain.dataset import Row
from tailorbird.domain.scope import ScopeTrial
from tailorbird.ports.encoder import Vectors
from tailorbird.rungs.floor import Embed, FloorModel
from tailorbird.stats.roc import ScoredRows, compare_scorers
from tailorbird.text.label_rules import left_out_labels

#: Fits a model to rows that bear the labels.
Fit = Callable[[Sequence[Row], Sequence[str]], FloorModel]


def remembered(embed: Embed) -> Embed:
    """``embed``, which is asked of each text once."""
    known: dict[str, Vectors] = {}

    def of(texts: Sequence[str]) -> Vectors:
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known.update(zip(missing, embed(missing), strict=True))
        return np.stack([known[text] for text in texts]) if texts else embed(())

    return of


def with_references(model: FloorModel, train: Sequence[Row]) -> FloorModel:
    """The model with the vectors of its training rows, where it reads vectors: rounded as they are stored, so that what is measured is what
    is served."""
    if model.embed is None or model.linear.alone:
        return model
    vectors_NW = model.embed([row.text for row in sorted(train, key=lambda row: row.id)])
    return replace(model, linear=replace(model.linear, references_NW=vectors_NW.astype(np.float16).astype(np.float32)))


def trial_of(fit: Fit, rows: tuple[Sequence[Row], Sequence[Row]], labels: Sequence[str], confidence: float) -> ScopeTrial | None:
    """Scorers compared on the second of ``rows``, dev, by models that are fitted to the first, train, without some of the labels; each
    label is left out once, and its rows stand for what is out of scope. None with too few labels."""
    train, dev = rows
    folds = []
    for gone in left_out_labels(labels):
        learned = [row for row in train if row.answer not in gone]
        kept = [label for label in labels if label not in gone]
        if len({row.answer for row in learned}) < 2:
            continue
        model = with_references(fit(learned, kept), learned)
        known, outside = ([row for row in dev if (row.answer in gone) is side] for side in (False, True))
        folds.append((_scored(model, known), _scored(model, outside)))
    return compare_scorers("labels", folds, confidence)


def _scored(model: FloorModel, rows: Sequence[Row]) -> ScoredRows:
    scores = model.scopes(model.scores([row.text for row in rows])) if rows else []
    return ScoredRows(scores, [row.group for row in rows])
