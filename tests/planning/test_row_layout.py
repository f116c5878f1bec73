"""Estimates follow how a training lays out rows: packed, padded to one length, or one at a time."""

from __future__ import annotations

from typing import Any

import pytest

from support.planning import TOKENS, inputs
from tailorbird.domain.plan import PassLayout, TrainingSettings
from tailorbird.planning import PlanInputs
from tailorbird.planning.estimates import batch_of, longest_pass, passes_of
from tailorbird.planning.rung_plans import lora

ROWS = TOKENS.model_copy(update={"shared_prefix": 100, "prompt_mean": 160.0, "prompt_max": 300, "target_mean": 20.0, "row_sd": 30.0})


def laid_out(layout: PassLayout, **profile: Any) -> PlanInputs:
    return inputs(tokens=ROWS.model_copy(update={"layout": layout} | profile))


@pytest.fixture
def settings() -> TrainingSettings:
    planned = lora(inputs(tokens=ROWS)).training
    return planned.model_copy(update={"token_budget": 1024})


def test_a_prefix_is_computed_once_only_where_rows_are_packed(settings: TrainingSettings) -> None:
    packed, padded, single = (batch_of(laid_out(layout), settings).tokens for layout in ("packed", "padded", "single"))
    passes = passes_of(laid_out("packed"), settings, settings.batch_size)
    assert packed == passes * 100 + settings.batch_size * 80
    assert single == settings.batch_size * 180
    assert single < padded < 1.3 * single


def test_each_row_alone_is_a_pass_and_the_longest_holds_most(settings: TrainingSettings) -> None:
    single = laid_out("single")
    assert passes_of(single, settings, settings.batch_size) == settings.batch_size
    assert longest_pass(single, settings) == 300 + ROWS.target_max < longest_pass(laid_out("padded"), settings)
