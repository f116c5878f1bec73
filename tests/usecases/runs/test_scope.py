"""Requests out of scope, from the objective to the release: with examples and without, on a classical rung and on one that speaks."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.bases import install_encoder
from support.doubles.engine import MemoryEncoder
from support.usecases import VIEWER, write_objective
from tailorbird.domain.errors import DataInvalid, ObjectiveInvalid, TailorbirdError
from tailorbird.domain.evidence import Evidence, ScopeScorer
from tailorbird.domain.release import Release
from tailorbird.monitoring.production_check import Reference
from tailorbird.monitoring.sketch import sketch
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.monitoring.watch import watch_production
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt, plan

SILENT = Progress()
SOURCE = {"origin": "written for this test", "license": "Apache-2.0"}
OURS = {"path": "rows.csv", "source": SOURCE}
TASK = {"kind": "classify", "instruction": "Classify the message.", "out_of_scope": {"refuse_known_at_most": 0.1}}


def other(number: int) -> str:
    """A text that is like no other, and about nothing that a label is about."""
    return "weather " + " ".join(f"v{(number * factor) % 9973}" for factor in (31, 577, 1009, 4001))


def write_scoped(folder: Path, *, examples: int = 0, **changes: Any) -> Path:
    """The rows of the others, and ``examples`` of what none of the labels fits."""
    sources = [OURS, {"path": "others.csv", "out_of_scope": True, "source": SOURCE}] if examples else [OURS]
    path = write_objective(folder, **({"task": TASK, "data": sources, "ladder": ["floor"]} | changes))
    with (folder / "others.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([other(number)] for number in range(examples))])
    return path


def climbed(deps: Dependencies, author: Actor, path: Path) -> tuple[RunReport, Evidence, Release]:
    told = show_run(deps, VIEWER, adapt(deps, author, path, SILENT).run.id)
    assert told.evidence is not None
    dev = next(each for each in told.ladder.measured if each.candidate == told.ladder.chosen)
    return told, dev.evidence, show_release(deps, VIEWER, str(told.conclusion.release))


def test_with_examples_the_scorer_is_chosen_on_dev_and_proven_on_test(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    targets = {"accuracy": 0.8, "out_of_scope_auroc": 0.8, "known_refused": 0.3}
    kpis = [{"metric": metric, "target": target} for metric, target in targets.items()]
    told, dev, release = climbed(deps, author, write_scoped(tmp_path / "job", examples=200, kpis=kpis))
    test = told.evidence
    assert dev.scope.rule == test.scope.rule == release.content.scope
    assert dev.scope.trial.by == "examples"
    assert dev.scope.trial == test.scope.trial, "chosen on dev, and kept"
    assert dev.scope.rule.scorer in {ScopeScorer.PROBABILITY, ScopeScorer.MARGIN, ScopeScorer.ENERGY}
    outside = told.manifest.label_counts["out of scope"]
    assert dev.scope.trial.outside == outside.train + outside.dev, "what fell to train is not learned, and measured on"
    assert told.manifest.labels == release.content.prompt.labels == ("delivery", "login", "refund")
    assert test.metrics["out_of_scope_answered"].n == outside.test
    assert test.n == told.manifest.counts.test - outside.test
    assert 0 < dev.metrics["known_refused"].value <= 0.1
    assert {finding.name for finding in (told.gate.findings if told.gate else ())} == set(targets)
    assert len(test.scope.points) == 5


@pytest.mark.parametrize("role", ["rung", "reference"])
def test_without_examples_labels_are_left_out_in_turn(
    deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    install_encoder(deps, tmp_path, monkeypatch)
    changes = {"ladder": ["floor"]} if role == "rung" else {"ladder": ["prompt"], "floor": {"role": "reference"}}
    told, _, release = climbed(replace(deps, encoder=MemoryEncoder), author, write_scoped(tmp_path / "job", **changes))
    found = told.ladder.floor.evidence.scope
    assert (found.trial.by, found.trial.folds) == ("labels", 3)
    assert [trial.scorer for trial in found.trial.scorers] == list(ScopeScorer), "vectors are read, so that nearness is among them"
    assert release.content.scope is not None
    assert "out_of_scope_auroc" not in told.evidence.metrics
    assert told.evidence.metrics["known_refused"].n == told.evidence.n


def refused(deps: Dependencies, author: Actor, path: Path) -> TailorbirdError:
    with pytest.raises((ObjectiveInvalid, DataInvalid)) as caught:
        plan(deps, author, path, SILENT)
    return caught.value


def test_an_example_that_bears_a_label_too_is_refused_with_both_places(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_scoped(tmp_path / "job", examples=60)
    said = (tmp_path / "job" / "rows.csv").read_text().splitlines()[7].rpartition(",")[0]
    with (tmp_path / "job" / "others.csv").open("a") as file:
        file.write(f"{said.upper()}\n")
    error = refused(deps, author, path)
    assert (error.error_code, error.message) == (
        "labels_collide",
        "others.csv:62: an example of what is out of scope bears a label too, in rows.csv:8",
    )
    assert "'out of scope'" in error.hint
    assert "weather" not in error.message


def test_drift_is_held_against_what_labels_fit(deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path) -> None:
    path = write_scoped(tmp_path / "job", examples=300)
    told, _, release = climbed(deps, author, path)
    moves.sign_and_decide(deps, approver, release.digest, "approve", "")
    moves.stage(deps, operator, release.digest)
    moves.promote(deps, operator, release.digest)
    found = {each.name: each for each in watch_production(deps, operator).signals}
    assert "drift.out_of_scope" in found
    place = deps.reference(release.digest)
    reference = Reference.model_validate_json(place.read_bytes())
    refused = told.evidence.scope.refused
    known = told.evidence.metrics["known_refused"]
    assert sum(refused.values()) == round(known.value * known.n) > 0
    assert sum(reference.classes.values()) == told.evidence.n - sum(refused.values()), "what the rule refuses has no class to be expected"
    assert not {sketch(other(number)) for number in range(300)} & set(reference.sketches)
    outside = told.manifest.label_counts["out of scope"]
    assert len(reference.sketches) == told.manifest.size - outside.train - outside.dev - outside.test
