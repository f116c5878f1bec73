"""Scope of linear models: vectors asked for once, those of rows that are stored, and scorers that tell labels left out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from support.rungs import make_rows
from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.evidence import ScopeScorer
from tailorbird.ports.encoder import Vectors
from tailorbird.rungs import fit_floor, trial_of, with_references
from tailorbird.text.linear_classifier import read_linear, write_linear

TOPICS = ("card", "fee", "loan", "pin", "rate")
#: Words of each topic, none of them shared.
WORDS = {topic: [f"{topic}{number}" for number in range(12)] for topic in TOPICS}


def embed(texts: Sequence[str]) -> Vectors:
    """A direction a topic, and a little of what tells texts apart."""
    made = np.zeros((len(texts), len(TOPICS) + 3), dtype=np.float32)
    for place, text in enumerate(texts):
        for column, topic in enumerate(TOPICS):
            made[place, column] = sum(topic in word for word in text.split())
        made[place, len(TOPICS) :] = np.random.default_rng(len(text) + sum(map(ord, text))).normal(0, 0.3, 3)
    lengths: Vectors = np.linalg.norm(made, axis=1, keepdims=True)
    return made / lengths


def rows(count: int) -> tuple[Row, ...]:
    random = np.random.default_rng(5)
    made = []
    for place, row in enumerate(make_rows(count)):
        topic = TOPICS[place % len(TOPICS)]
        made.append(row.model_copy(update={"target": topic, "text": " ".join(random.choice(WORDS[topic], 3)) + f" n{place}"}))
    return tuple(made)


def test_what_lies_near_no_row_is_told_and_the_rows_vectors_are_stored(tmp_path: Path) -> None:
    known = [row for row in rows(100) if row.target != "rate"]
    model = with_references(fit_floor(known, TOPICS[:4], 1, embed=embed), known)
    assert model.linear.references_NW.shape == (len(known), len(TOPICS) + 3)
    near, far = model.scores(["card3 card4 card5"]), model.scores(["rate3 rate4 rate5"])
    assert near.nearness_B[0] > 0.8 > 0.7 > far.nearness_B[0]
    (tmp_path / "encoder").mkdir()
    write_linear(model.linear, tmp_path)
    again = read_linear(tmp_path).scores(["card3 card4 card5"], embed(["card3 card4 card5"]))
    np.testing.assert_array_equal(again.nearness_B, near.nearness_B)
    np.save(tmp_path / "references.npy", np.eye(2))
    with pytest.raises(ModelInvalid, match="do not fit together"):
        read_linear(tmp_path)


def test_scorers_are_compared_on_labels_that_were_left_out() -> None:
    made = rows(200)
    found = trial_of(partial(fit_floor, seed=1, embed=embed), (made[:100], made[100:]), TOPICS, 0.9)
    assert (found.by, found.folds, found.outside) == ("labels", 4, 100)
    assert [trial.scorer for trial in found.scorers] == list(ScopeScorer)
    assert found.best.auroc > 0.9
    assert all(trial.low <= trial.auroc <= trial.high for trial in found.scorers)
