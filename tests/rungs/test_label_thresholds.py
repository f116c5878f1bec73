"""Several labels an item: from which probability a label is given is chosen on rows held out, whatever made the candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from support.rungs import KeywordEngine, build_context, make_plan_of, make_rows, make_settings
from tailorbird.domain.deployment import Servable
from tailorbird.domain.prompt import Entry, Message, PromptSpec, RetrievedEntry
from tailorbird.ports.engine import LabelScores
from tailorbird.rungs import RungContext, make_candidate
from tailorbird.rungs.label_thresholds import GOALS, fitting_thresholds
from tailorbird.text.label_rules import decide_label

SETS = ("invoice", "none")


LABELS = ("invoice", "refund")


class ShyEngine(KeywordEngine):
    """Nearly sure that no label applies, and a little less where one does; remembers what it loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.servables: list[Servable] = []
        self.found: list[Entry] = []
        self.asked: list[tuple[Message, ...]] = []

    def load(self, servable: Servable) -> None:
        super().load(servable)
        self.servables.append(servable)

    def retrieve(self, servable: str, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[RetrievedEntry]]:
        return [[RetrievedEntry(entry=entry, score=1.0) for entry in self.found[:count]] for _ in texts]

    def _scores(self, prompt: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        self.asked.append(tuple(prompt))
        invoice = 0.2 if "pay" in prompt[-1].content else 0.02
        return LabelScores(log_probabilities=(math.log(invoice), math.log(1 - invoice)), prompt_tokens=1, latency_ms=1.0)


def many_rows(count: int = 400) -> Any:
    """One row in ten bears a label, and says so."""
    rows = []
    for number, row in enumerate(make_rows(count)):
        bears = number % 10 == 0
        rows.append(row.model_copy(update={"text": f"{'pay' if bears else 'see'} {number}", "target": "invoice" if bears else "none"}))
    return tuple(rows)


def context_of(folder: Path, engine: ShyEngine, plan: Any, **changes: Any) -> RungContext:
    return build_context(folder, plan, engine=lambda: engine, train=many_rows(), labels=LABELS, label_sets=SETS, **changes)


def answer(prompt: PromptSpec, invoice: float) -> str:
    return decide_label(prompt, [math.log(invoice), math.log(1 - invoice)]).answer


@pytest.mark.parametrize(
    "plan",
    [
        make_plan_of("prompt", "zero-shot"),
        make_plan_of("prompt", "few-shot", shots=2),
        make_plan_of("lora", "r16", training=make_settings("lora")),
        make_plan_of("full", "all weights", training=make_settings("full")),
    ],
    ids=lambda plan: plan.variant,
)
def test_a_label_that_never_reaches_a_half_is_given_where_it_belongs(tmp_path: Path, plan: Any) -> None:
    engine = ShyEngine()
    found = make_candidate(context_of(tmp_path, engine, plan)).candidate
    assert answer(found.prompt.model_copy(update={"priors": ()}), 0.2 if not found.prompt.priors else 0.6) == "invoice"
    assert answer(found.prompt.model_copy(update={"priors": ()}), 0.001) == "none"
    assert len(set(found.prompt.thresholds)) == 1
    assert len(found.prompt.thresholds) == len(LABELS)
    assert engine.held == []


def test_macro_f1_gives_each_label_a_threshold_of_its_own_and_one_of_hardly_any_row_that_of_all() -> None:
    """A frequent label that is told well, a rare one that is told badly, and one that two rows bear."""
    generator = np.random.default_rng(1)
    borne = np.zeros((2_000, 3), dtype=bool)
    borne[:800, 0], borne[:60, 1], borne[:2, 2] = True, True, True
    odds = np.where(borne, [3.0, -2.0, -1.0], [-3.0, -4.0, -6.0]) + generator.normal(0, 1, borne.shape)
    probabilities = 1 / (1 + np.exp(-odds))
    frequent, rare, hardly = fitting_thresholds(probabilities, borne, "macro_f1")
    assert rare < 0.75 * frequent
    shared = fitting_thresholds(probabilities, borne, "micro_f1")
    assert len(set(shared)) == 1
    marked = borne.astype(float)
    assert GOALS["macro_f1"](probabilities >= [frequent, rare, hardly], marked) > GOALS["macro_f1"](probabilities >= shared[0], marked)


@given(st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=3), min_size=2, max_size=20))
def test_f1_is_that_of_scikit_learn(pairs: list[list[tuple[bool, bool]]]) -> None:
    marks = np.array(pairs)
    given_NK, borne_NK = marks[..., 0], marks[..., 1]
    marked_NK = borne_NK.astype(float)
    if (given_NK | borne_NK).any(axis=0).all():
        assert GOALS["micro_f1"](given_NK, marked_NK) == pytest.approx(f1_score(borne_NK, given_NK, average="micro", zero_division=0.0))
        assert GOALS["macro_f1"](given_NK, marked_NK) == pytest.approx(f1_score(borne_NK, given_NK, average="macro", zero_division=0.0))
    assert GOALS["exact_match"](given_NK, marked_NK) == (given_NK == borne_NK).all(axis=1).mean()
