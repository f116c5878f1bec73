"""What a step reads of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tailorbird.domain.dataset import Row, SnapshotManifest, Split
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import context as step_context
from tailorbird.usecases.runs.engine import stage_of
from tailorbird.usecases.runs.submit import plan

SILENT = Progress()
Loads = Callable[[SnapshotManifest, ArtifactStore, Split], tuple[Row, ...]]


def test_the_rows_of_a_split_are_read_once_a_step(
    deps: Dependencies, author: Actor, objective_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan asks for them for each rung; a million take half a minute."""
    context = stage_of(deps, author, plan(deps, author, objective_path, SILENT).run, SILENT)
    read = []
    for name in ("load_rows", "load_items"):
        load: Loads = getattr(step_context, name)

        def counted(manifest: SnapshotManifest, artifacts: ArtifactStore, split: Split, load: Loads = load) -> tuple[Row, ...]:
            read.append(split)
            return load(manifest, artifacts, split)

        monkeypatch.setattr(step_context, name, counted)
    for _ in range(3):
        assert context.rows(Split.TRAIN) == context.train_items
        assert len(context.rows(Split.DEV)) == context.manifest.counts.dev
        assert context.shifted_rows(Split.DEV) == context.outside_rows(Split.DEV) == ()
    assert sorted(read) == [Split.DEV, Split.TRAIN]
