"""The head of a tuned encoder where an item may bear several labels: what it is added from, and what is chosen on rows held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from support.rungs import LABELS, make_rows
from tailorbird.domain.dataset import Row
from tailorbird.rungs import FloorModel, TunedLabels, fit_floor, fit_label_set_head, held_out_groups
from tailorbird.text.label_rules import LabelPrototypes, join, split


def many_rows(count: int, borne: Sequence[str] = LABELS) -> tuple[Row, ...]:
    """Rows in forty groups, of which each bears some of the labels or none; no other row has its words, and nothing in them tells it."""
    rows = make_rows(count, 40)
    found = []
    for place, row in enumerate(rows):
        labels = [label for bit, label in enumerate(borne) if place * 7919 % 64 >> bit & 1] if place % 2 else []
        found.append(row.model_copy(update={"text": f"w{place} x{place * 31} about {place}", "target": join(labels)}))
    return tuple(found)


def reads(rows: Sequence[Row], texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors that tell which labels a text bears."""
    borne = {row.text: split(row.target) for row in rows}
    found = np.array([[1.0, *(2.0 * (label in borne[text]) for label in LABELS)] for text in texts], dtype=np.float32)
    normal: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return normal


KNOWING = LabelPrototypes(np.concatenate([np.full((3, 1), -6.0), 12.0 * np.eye(3)], axis=1), np.zeros(3))


def head_of(rows: tuple[Row, ...], prototypes: LabelPrototypes) -> FloorModel:
    tuned = TunedLabels(lambda texts: reads(rows, texts), prototypes)
    return fit_label_set_head(rows, held_out_groups(rows, 7), LABELS, 7, "macro_f1", tuned)


def right(model: FloorModel, rows: Sequence[Row]) -> float:
    return float(np.mean([each.answer == row.target for each, row in zip(model.predict(rows), rows, strict=True)]))


def test_what_the_encoder_knows_and_words_do_not_is_answered() -> None:
    rows = many_rows(400)
    held_out = held_out_groups(rows, 7)[1]
    assert right(head_of(rows, KNOWING), held_out) > 0.95
    # Words that only one row has: what is left is how many rows bear a label.
    assert right(fit_floor(held_out_groups(rows, 7)[0], LABELS, 7, many=True), held_out) < 0.7


def test_a_fifth_of_what_bears_a_label_is_held_out_however_rare_it_is() -> None:
    rows = make_rows(2_000, 200)
    borne = {f"g{number}" for number in range(10)}
    rows = tuple(row if row.group in borne else row.model_copy(update={"target": join(())}) for row in rows)
    learn, held_out = held_out_groups(rows, 7)
    assert [sum(bool(split(row.target)) for row in part) for part in (learn, held_out)] == [80, 20]
    assert len(held_out) == 400
    assert not {row.group for row in learn} & {row.group for row in held_out}


def with_c(rows: tuple[Row, ...], groups: Sequence[str], most: int) -> tuple[Row, ...]:
    """``rows`` of which the first ``most`` in ``groups`` bear the third label alone."""
    borne = {row.id for row in [row for row in rows if row.group in groups][:most]}
    return tuple(row.model_copy(update={"target": join((LABELS[2],))}) if row.id in borne else row for row in rows)


@pytest.mark.parametrize(
    "groups",
    [
        2,
    ],
)
def test_a_group_of_every_label_is_left_to_learn(groups: int) -> None:
    plain = many_rows(400, LABELS[:2])
    held_before = held_out_groups(plain, 7)[1]
    rows = with_c(plain, sorted({row.group for row in held_before})[:groups], 10 * groups)
    learn, held_out = held_out_groups(rows, 7)
    assert {label for row in learn for label in split(row.answer)} == set(LABELS)
    assert not {row.group for row in learn} & {row.group for row in held_out}
    bearing = [sum(bool(split(row.answer)) for row in part) for part in (learn, held_out)]
    assert bearing[1] / sum(bearing) == pytest.approx(0.2, abs=0.06), "another one judges in its place"
    assert (learn, held_out) == held_out_groups(rows[::-1], 7)
