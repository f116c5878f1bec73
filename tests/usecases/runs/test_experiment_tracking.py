"""Trackers are told of every training; one that fails is left out, and the training goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryTracker
from support.usecases import write_objective
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing


@pytest.fixture
def objective_path(tmp_path: Path) -> Path:
    return write_objective(tmp_path / "job", ladder=["lora"])


def adapted(deps: Dependencies, author: Actor, path: Path) -> list[str]:
    said: list[str] = []
    climbing.adapt(deps, author, path, Progress(tell=said.append))
    return said


def test_each_training_is_shown_with_its_settings_and_its_end(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    tracker = MemoryTracker()
    adapted(replace(deps, trackers=lambda: (tracker,)), author, objective_path)
    assert [training.name.split()[1] for training in tracker.trainings] == ["lora"] * len(tracker.trainings)
    shown = tracker.trainings[0]
    assert shown.experiment.startswith("acme/")
    assert {"learning_rate", "lora.rank", "snapshot", "base_model"} <= shown.settings.keys()
    assert tracker.lines
    assert tracker.lines[-1].step == tracker.ends[0].steps


def test_a_tracker_that_is_down_ends_nothing(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    down, up = MemoryTracker(), MemoryTracker()
    down.reachable = False
    said = adapted(replace(deps, trackers=lambda: (down, up)), author, objective_path)
    assert sum("the training goes on" in text for text in said) == len(up.trainings)
    assert up.lines
    assert not down.lines
