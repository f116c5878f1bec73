"""Tasks of a harness in a run: asked with the probes of retention, part of what names the run, and missed before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.usecases import write_objective
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.evidence import Retention
from tailorbird.domain.ladder import Ladder
from tailorbird.domain.run import RunState
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Engine
from tailorbird.ports.harness import Rights
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing

TASK = "task: towns\ndataset_path: json\ndataset_kwargs: {data_files: {test: towns.jsonl}}\noutput_type: multiple_choice\n"


class AllRight:
    """A harness whose ten questions every servable answers right."""

    def ask(self, _engine: Engine, _servable: Digest, tasks: Sequence[Path], tell: Callable[[int, int], None]) -> Mapping[str, Rights]:
        tell(10, 10)
        return {path.stem: {f"{path.stem}:{place}": True for place in range(10)} for path in tasks}


def with_tasks(folder: Path, **changes: object) -> Path:
    limits = {"retention": {"max_drop": 0.5, "tasks": ["probes/towns.yaml"]}}
    path = write_objective(folder, **{"limits": limits, "ladder": ["lora"]} | changes)
    (folder / "probes").mkdir()
    (folder / "probes" / "towns.yaml").write_text(TASK)
    (folder / "probes" / "towns.jsonl").write_text(json.dumps({"question": "Ulm?"}))
    return path


@pytest.fixture
def equipped(deps: Dependencies) -> Dependencies:
    return replace(deps, harness=AllRight)


def test_questions_of_a_task_stand_in_the_evidence_as_a_family(equipped: Dependencies, author: Actor, tmp_path: Path) -> None:
    ended = climbing.adapt(equipped, author, with_tasks(tmp_path / "job"), Progress())
    assert ended.conclusion is not None
    with equipped.ledger.work("acme", write=False) as work:
        [climb] = work.records.get(Ladder, ended.conclusion.ladder).climbs
    assert climb.evidence.retention is not None
    found = Retention.model_validate_json(equipped.artifacts.get(climb.evidence.retention))
    assert (found.families[-1].family, found.families[-1].n) == ("towns", 10)
    assert climb.evidence.metrics["retention"].n == found.overall.n == sum(family.n for family in found.families)


def test_other_questions_are_another_run(equipped: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = with_tasks(tmp_path / "job")
    first = climbing.submit(equipped, author, path, RunState.PLANNING)
    assert climbing.submit(equipped, author, path, RunState.PLANNING).id == first.id
    (path.parent / "probes" / "towns.jsonl").write_text(json.dumps({"question": "Rome?"}))
    assert climbing.submit(equipped, author, path, RunState.PLANNING).id != first.id


def test_without_a_harness_nothing_is_begun(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as missing:
        climbing.plan(deps, author, with_tasks(tmp_path / "job"), Progress())
    assert (missing.value.error_code, missing.value.hint) == ("package_missing", "pip install 'tailorbird[harness]'")
    with deps.ledger.work("acme", write=False) as work:
        assert work.runs.all() == ()
