"""Candidates of the rungs that train."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from support.rungs import LABELS, build_context, make_plan_of, make_settings
from tailorbird.rungs import RungContext, make_candidate

Build = Callable[..., RungContext]


@pytest.fixture
def make_context(tmp_path: Path) -> Build:
    """Builds a context in a folder of this test."""
    return partial(build_context, tmp_path)


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
