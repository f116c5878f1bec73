"""Candidates of each rung: what they carry, where it came from, and that the same inputs make the same candidate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.rungs import LABELS, D, KeywordEngine, build_context, make_objective, make_plan_of, make_rows, make_settings
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import DataInvalid, Internal
from tailorbird.domain.ladder import RungKind
from tailorbird.planning import flops, time_and_cost
from tailorbird.rungs import RungContext, make_candidate
from tailorbird.rungs.context import ENOUGH, SHARE, hold_out
from tailorbird.rungs.prompt import _NO_CONTENT, DRAWS, SCORED, draw_demonstrations
from tailorbird.text.prompt_rendering import messages_for

Build = Callable[..., RungContext]


@pytest.fixture
def make_context(tmp_path: Path) -> Build:
    """Builds a context in a folder of this test."""
    return partial(build_context, tmp_path)


# --- prompt -----------------------------------------------------------------------------------------------------------------------------


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


def test_zero_shot_of_a_generate_task_lists_nothing(make_context: Build) -> None:
    context = make_context(make_plan_of("prompt", "zero-shot"), objective=make_objective("generate"), labels=())
    prompt = make_candidate(context).candidate.prompt
    assert messages_for(prompt, "x")[0].content == "Classify the message."


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


def test_few_shot_of_the_same_rows_is_the_same_in_any_order(make_context: Build) -> None:
    plan = make_plan_of("prompt", "few-shot", shots=5)
    one = make_candidate(make_context(plan))
    other = make_candidate(make_context(plan, train=tuple(reversed(make_rows(120)))))
    assert one.candidate == other.candidate


def test_few_shot_of_a_generate_task_is_chosen_by_overlap(make_context: Build) -> None:
    plan = make_plan_of("prompt", "few-shot", shots=2)
    found = make_candidate(make_context(plan, objective=make_objective("generate"), labels=())).candidate
    assert len(found.prompt.demonstrations) == 2
    assert found.prompt.labels == ()


@given(st.integers(1, 20), st.integers(0, 1000))
def test_demonstrations_spread_over_labels(shots: int, seed: int) -> None:
    shown = draw_demonstrations(make_rows(60), shots, seed)
    assert len(shown) == len({d.row_id for d in shown}) == shots
    counts = Counter(d.target for d in shown)
    assert max(counts.values()) - min(counts.get(label, 0) for label in LABELS) <= 1


def test_engine_is_freed_when_scoring_fails(make_context: Build) -> None:
    class Broken(KeywordEngine):
        def score(self, *_: Any) -> Any:
            raise Internal("broken", "mend it")

    engine = Broken()
    with pytest.raises(Internal):
        make_candidate(make_context(make_plan_of("prompt", "few-shot", shots=3), engine=lambda: engine))
    assert engine.held == []


# --- lora and full ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "kept", "unset"), [("lora", "adapter", "weights"), ("qlora", "adapter", "weights"), ("full", "weights", "adapter")]
)
def test_trained_rungs_keep_their_tree_and_their_report(make_context: Build, method: str, kept: str, unset: str) -> None:
    settings = make_settings(method)
    context = make_context(make_plan_of(method, "r16", training=settings))
    made = make_candidate(context)
    found, (job,) = made.candidate, context.trainer().jobs
    assert getattr(found, kept) in context.artifacts.trees
    assert getattr(found, unset) is None
    assert made.training is not None
    assert (found.trained_parameters, found.seed) == (4_884_480, 7)
    assert (made.seconds, made.peak_memory_gb) == (72.0, 1.5)
    assert job.settings == settings
    assert job.prompt == found.prompt
    assert not found.prompt.list_labels
    assert found.prompt.labels == LABELS
    assert len(job.train) + len(job.held_out) == 120
    assert {e.text for e in job.train} | {e.text for e in job.held_out} == {row.text for row in context.train}


def test_dev_rows_are_never_trained_on_nor_shown(make_context: Build) -> None:
    dev = tuple(row.model_copy(update={"id": digest_of({"dev": row.id}), "text": "dev " + row.text}) for row in make_rows(30))
    context = make_context(make_plan_of("lora", "r16", training=make_settings("lora")), dev=dev)
    make_candidate(context)
    (job,) = context.trainer().jobs
    assert not any(example.text.startswith("dev ") for example in job.train + job.held_out)
    engine = KeywordEngine()
    shown = make_candidate(make_context(make_plan_of("prompt", "few-shot", shots=6), dev=dev, engine=lambda: engine))
    assert not any(d.text.startswith("dev ") for d in shown.candidate.prompt.demonstrations)
    assert not any(prompt[-1].content.startswith("dev ") for call in engine.seen for prompt in call)


def test_an_incomplete_plan_and_the_floor_are_refused(make_context: Build) -> None:
    for plan in (make_plan_of("lora", "r16"), make_plan_of("floor", "tf-idf")):
        with pytest.raises(Internal):
            make_candidate(make_context(plan))


# --- holding out ------------------------------------------------------------------------------------------------------------------------


@given(st.integers(2, 300), st.integers(2, 60), st.integers(0, 5))
def test_held_out_rows_share_no_group_with_the_rest(count: int, groups: int, seed: int) -> None:
    rows = make_rows(count, groups)
    if len({row.group for row in rows}) < 2:
        return
    learn, held_out = hold_out(rows, seed)
    assert learn
    assert held_out
    assert sorted(row.id for row in learn + held_out) == sorted(row.id for row in rows)
    assert not {row.group for row in learn} & {row.group for row in held_out}
    assert hold_out(tuple(reversed(rows)), seed) == (learn, held_out)


def test_a_tenth_is_held_out_where_groups_are_small() -> None:
    learn, held_out = hold_out(make_rows(500), 1)
    assert (len(learn), len(held_out)) == (450, 50)
    assert hold_out(make_rows(500), 2)[1] != held_out


def test_of_many_rows_no_more_are_held_out_than_choose_a_checkpoint() -> None:
    learn, held_out = hold_out(make_rows(5_000, 5_000), 1)
    assert (len(learn), len(held_out)) == (4_600, 400)
    assert flops.held_out_rows(5_000) == 400


def test_rows_of_one_group_cannot_be_held_out() -> None:
    with pytest.raises(DataInvalid) as caught:
        hold_out(make_rows(10, 1), 1)
    assert "please look" not in caught.value.message


def test_what_planning_assumes_is_what_rungs_do() -> None:
    assert (time_and_cost.FEW_SHOT_DRAWS, time_and_cost.FEW_SHOT_ROWS) == (DRAWS, SCORED)
    assert (flops.HELD_OUT, flops.MOST_HELD_OUT) == (SHARE, ENOUGH)
