"""Likely label errors: rows whose label an out-of-fold classifier disagrees with, ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tailorbird.domain.curation import LabelSuspect
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.objective import Task, TaskKind

#: Folds, and the rows that a label needs at least to be in each.
FOLDS = 5
SEED = 20


def label_suspects(rows: Sequence[Row], task: Task) -> tuple[LabelSuspect, ...]:
    """Rows that the classifier would label otherwise, likeliest error first. Empty where rows have no single label, or too few of each.

    Raises Unavailable when scikit-learn is not installed.

    The score of a row is how much surer the classifier is of its own answer than of the given label: p(suggested) - p(given), each from a
    fold that the row was not in (Northcutt, Jiang & Chuang 2021, "Confident learning", with the margin as the quality score).
    """
    counts = Counter(row.target for row in rows)
    usable = [row for row in rows if counts[row.target] >= FOLDS]
    if task.kind is not TaskKind.CLASSIFY or task.labels == "many" or len({row.target for row in usable}) < 2:
        return ()
    found = [suspect for suspect in map(_suspect, usable, *_judged(usable)) if suspect is not None]
    return tuple(sorted(found, key=lambda suspect: (-suspect.score, suspect.row)))


def _judged(rows: Sequence[Row]) -> tuple[list[str], list[float]]:
    """For each row the label of the classifier that did not see it, and how much surer it is of that than of the given one."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise Unavailable("ranking labels needs scikit-learn", 'pip install "tailorbird[local]"', code="package_missing") from error
    texts, given = [row.text for row in rows], [row.target for row in rows]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10.0, max_iter=200))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    chances = cross_val_predict(model, texts, given, cv=folds, method="predict_proba")
    labels = sorted(set(given))
    place = {label: column for column, label in enumerate(labels)}
    best = chances.argmax(axis=1)
    margins = [float(chance[top] - chance[place[label]]) for chance, top, label in zip(chances, best, given, strict=True)]
    return [labels[top] for top in best], margins


def _suspect(row: Row, suggested: str, margin: float) -> LabelSuspect | None:
    if suggested == row.target:
        return None
    place = row.provenance
    return LabelSuspect(
        row=row.id, file=place.file, line=place.line, given=row.target, suggested=suggested, score=min(1.0, round(margin, 6))
    )
