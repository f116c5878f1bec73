"""Candidates of each rung: what they carry, where it came from, and that the same inputs make the same candidate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from support.rungs import KeywordEngine, build_context, make_plan_of, make_rows, make_settings
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.rungs import RungContext, make_candidate

Build = Callable[..., RungContext]


@pytest.fixture
def make_context(tmp_path: Path) -> Build:
    """Builds a context in a folder of this test."""
    return partial(build_context, tmp_path)


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
