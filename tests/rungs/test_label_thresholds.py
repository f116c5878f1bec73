"""Several labels an item: from which probability a label is given is chosen on rows held out, whatever made the candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from support.rungs import D, KeywordEngine, build_context, make_objective, make_plan_of, make_rows, make_settings
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Message, PromptSpec, Retrieval, RetrievedEntry
from tailorbird.ports.engine import LabelScores
from tailorbird.rungs import RungContext, make_candidate
from tailorbird.rungs.context import hold_out
from tailorbird.rungs.label_thresholds import FEWEST, GOALS, GRID, fitting_thresholds, goal_of, label_calibrations, with_thresholds
from tailorbird.text.label_rules import THRESHOLD, decide_label

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


def test_what_was_trained_is_what_is_asked(tmp_path: Path) -> None:
    engine = ShyEngine()
    context = context_of(tmp_path, engine, make_plan_of("lora", "r16", training=make_settings("lora")))
    make_candidate(context)
    [servable] = engine.servables
    assert servable.adapter == str(context.workspace / "model")
    assert {prompt[-1].content for prompt in engine.asked} == {row.text for row in hold_out(context.train, context.objective.seed)[1]}


def test_one_label_an_item_has_no_thresholds(tmp_path: Path) -> None:
    context = build_context(tmp_path, make_plan_of("prompt", "zero-shot"))
    assert make_candidate(context).candidate.prompt.thresholds == ()


def test_what_is_looked_up_for_a_row_is_not_the_row_nor_its_kin(tmp_path: Path) -> None:
    engine, rows = ShyEngine(), many_rows(40)
    kin = rows[3].model_copy(update={"id": D, "group": rows[0].group})
    engine.found = [Entry(id=row.id, text=f"shown {place}", target="none", access=("*",)) for place, row in enumerate((*rows[:3], kin))]
    prompt = PromptSpec(instruction="x", labels=LABELS, label_sets=SETS)
    local = LocalRetrieval(spec=Retrieval(what="examples", ways=("words",), count=2, index=D), index="")
    servable = Servable(id=D, tenant="acme", task=TaskKind.CLASSIFY, base="", adapter=None, weights=None, prompt=prompt, retrieval=local)
    context = partial(build_context, tmp_path)(make_plan_of("nearest", "2"), engine=lambda: engine, train=(*rows, kin))
    with_thresholds(context, servable, rows[:1])
    shown = [message.content for message in engine.asked[0] if message.content.startswith("shown")]
    assert shown == ["shown 2", "shown 1"], "the nearest last; not itself, not its near-duplicate"


@pytest.mark.parametrize(
    ("metrics", "goal"),
    [(("macro_f1", "micro_f1"), "macro_f1"), (("recall[invoice]", "exact_match"), "exact_match"), (("f1[x]",), "micro_f1")],
)
def test_thresholds_serve_the_first_kpi_over_all_labels(tmp_path: Path, metrics: tuple[str, ...], goal: str) -> None:
    objective = make_objective()
    [kpi] = objective.kpis
    kpis = tuple(kpi.model_copy(update={"metric": metric}) for metric in metrics)
    assert goal_of(objective.model_copy(update={"kpis": kpis})) == goal


def test_rare_labels_whose_probabilities_never_reach_a_half_are_given() -> None:
    """Nine items in ten bear nothing, and a label that is borne has a probability of 0.2."""
    borne = np.zeros((100, 2), dtype=bool)
    borne[:10, 0] = True
    probabilities = np.where(borne, 0.2, 0.02)
    bounds = fitting_thresholds(probabilities, borne, "micro_f1")
    assert len(bounds) == 2
    [bound] = set(bounds)
    assert 0.02 < bound < 0.2
    assert ((probabilities >= bound) == borne).all()
    assert bound == pytest.approx(0.07, abs=0.03), "between the two, far from both"


def test_a_half_stays_where_it_is_as_good_as_any() -> None:
    borne = np.eye(6, dtype=bool)
    assert fitting_thresholds(np.where(borne, 0.97, 0.01), borne, "micro_f1") == ()


def test_too_few_labels_tell_nothing() -> None:
    borne = np.zeros((50, 3), dtype=bool)
    borne[: FEWEST - 1, 0] = True
    assert fitting_thresholds(np.where(borne, 0.2, 0.02), borne, "micro_f1") == ()


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


def test_each_labels_log_odds_are_calibrated_and_those_of_a_rare_label_nearly_as_all() -> None:
    generator = np.random.default_rng(2)
    true_odds = generator.normal(-1, 2, (4_000, 2))
    borne = generator.random(true_odds.shape) < 1 / (1 + np.exp(-true_odds))
    told = np.stack([(true_odds[:, 0] - 1) / 0.5, true_odds[:, 1] + 1], axis=1)
    slopes, offsets = label_calibrations(told, borne)
    assert slopes == pytest.approx([0.5, 1.0], abs=0.1)
    assert offsets == pytest.approx([1.0, -1.0], abs=0.25)
    rare = np.concatenate([borne, np.zeros((4_000, 1), dtype=bool)], axis=1)
    slopes, offsets = label_calibrations(np.concatenate([told, np.full((4_000, 1), -12.0)], axis=1), rare)
    assert slopes[2] > 0
    assert 12 * slopes[2] - offsets[2] > 3, "a label that no row bears stays unlikely"
    slopes, _ = label_calibrations(-told, borne)
    assert (slopes > 0).all(), "the order of a label's texts is never turned round"


@given(st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=3), min_size=2, max_size=20))
def test_f1_is_that_of_scikit_learn(pairs: list[list[tuple[bool, bool]]]) -> None:
    marks = np.array(pairs)
    given_NK, borne_NK = marks[..., 0], marks[..., 1]
    marked_NK = borne_NK.astype(float)
    if (given_NK | borne_NK).any(axis=0).all():
        assert GOALS["micro_f1"](given_NK, marked_NK) == pytest.approx(f1_score(borne_NK, given_NK, average="micro", zero_division=0.0))
        assert GOALS["macro_f1"](given_NK, marked_NK) == pytest.approx(f1_score(borne_NK, given_NK, average="macro", zero_division=0.0))
    assert GOALS["exact_match"](given_NK, marked_NK) == (given_NK == borne_NK).all(axis=1).mean()


def drawn(seed: int, rows: int, shift: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Rare labels, true to their probabilities; then the log-odds that a model tells are shifted."""
    generator = np.random.default_rng(seed)
    odds = generator.normal(-4, 2, size=(rows, 5))
    borne = generator.random(odds.shape) < 1 / (1 + np.exp(-odds))
    return 1 / (1 + np.exp(-odds - shift)), borne


@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_few_rows_suffice_however_far_off_the_probabilities_are(shift: float) -> None:
    """Chosen on 80 rows, on average over draws, it costs little of the F1 that the best threshold has on many others."""
    others, theirs = drawn(1, 20_000, shift)
    best = max(GOALS["micro_f1"](others >= bound, theirs.astype(float)) for bound in GRID)
    bounds = [(*fitting_thresholds(*drawn(seed, 80, shift), "micro_f1"), THRESHOLD)[0] for seed in range(40)]
    assert np.mean([GOALS["micro_f1"](others >= bound, theirs.astype(float)) for bound in bounds]) > best - 0.02
