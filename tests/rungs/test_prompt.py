"""Candidates of the rung prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.rungs import LABELS, D, KeywordEngine, build_context, make_plan_of, make_rows
from tailorbird.chat.prompts import messages_for
from tailorbird.domain.ladder import RungKind
from tailorbird.rungs import RungContext, make_candidate
from tailorbird.rungs.context import hold_out
from tailorbird.rungs.prompt import _NO_CONTENT, DRAWS, SCORED, draw_demonstrations

Build = Callable[..., RungContext]


@pytest.fixture
def make_context(tmp_path: Path) -> Build:
    """Builds a context in a folder of this test."""
    return partial(build_context, tmp_path)


def test_zero_shot_is_the_instruction_and_its_labels(make_context: Build) -> None:
    made = make_candidate(make_context(make_plan_of("prompt", "zero-shot")))
    found = made.candidate
    assert (found.rung, found.variant, found.trained_parameters) == (RungKind.PROMPT, "zero-shot", 0)
    assert found.adapter is found.weights is None
    assert found.base_model == D
    assert made.training is None
    system = messages_for(found.prompt, "x")[0].content
    assert system.startswith("Classify the message.")
    assert all(label in system for label in LABELS)


def test_few_shot_keeps_the_set_that_helps_most_and_says_where_it_came_from(make_context: Build) -> None:
    engine, told = KeywordEngine(), []
    context = make_context(make_plan_of("prompt", "few-shot", shots=6), engine=lambda: engine, progress=told.append)
    found = make_candidate(context).candidate
    shown = found.prompt.demonstrations
    by_id = {row.id: row for row in context.train}
    assert Counter(d.target for d in shown) == Counter(LABELS * 2)
    assert all((by_id[d.row_id].text, by_id[d.row_id].target) == (d.text, d.target) for d in shown)
    learn, held_out = hold_out(context.train, context.objective.seed)
    drawn = [draw_demonstrations(learn, 6, context.objective.seed + draw) for draw in range(DRAWS)]
    tried = [messages_for(found.prompt.model_copy(update={"demonstrations": d}), "") for d in drawn]
    helpful = [engine.helpfulness(messages[:-1]) for messages in tried]
    assert max(helpful) > helpful[0]
    assert shown == drawn[helpful.index(max(helpful))]
    assert not {d.row_id for d in shown} & {row.id for row in held_out}
    assert engine.held == []
    assert len(told) == DRAWS + 1
    asked = {prompt[-1].content for call in engine.seen for prompt in call}
    assert asked == {row.text for row in held_out[:SCORED]} | set(_NO_CONTENT)


@given(st.integers(1, 20), st.integers(0, 1000))
def test_demonstrations_spread_over_labels(shots: int, seed: int) -> None:
    shown = draw_demonstrations(make_rows(60), shots, seed)
    assert len(shown) == len({d.row_id for d in shown}) == shots
    counts = Counter(d.target for d in shown)
    assert max(counts.values()) - min(counts.get(label, 0) for label in LABELS) <= 1
