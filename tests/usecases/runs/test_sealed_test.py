"""After a look at the sealed test that confirmed nothing the run goes on, and pays for the next look."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from support.usecases import LABELS, VIEWER, write_objective
from tailorbird.domain.evidence import GateResult, Verdict
from tailorbird.domain.ladder import Choice
from tailorbird.reporting.ladder import ladder_markdown
from tailorbird.stats.intervals import spend
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs.queries import compare, show_evidence, show_run
from tailorbird.usecases.runs.submit import adapt
from usecases.test_adapt import ladder_of

#: Words that go with the labels in the rows to learn from, and in dev.
HINTS = {"refund": "amber", "delivery": "birch", "login": "cedar"}


def write_turning(folder: Path, tested: int = 60, *, prompt_is_right: bool = True, **changes: object) -> Path:
    """The floor learns a hint for each label; in the sealed test the hints are another label's. A prompt goes by the label's name, which
    stands in dev, and in the test where ``prompt_is_right``."""
    path = write_objective(folder, floor={"role": "rung"}, **changes)
    sources = []
    for split, count in (("train", 240), ("dev", 120), ("test", tested)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for number in range(count):
                label, other = LABELS[number % 3], LABELS[(number + 1) % 3]
                hint = HINTS[other if split == "test" else label]
                named = {"train": "", "dev": label, "test": label if prompt_is_right else other}[split]
                words = " ".join(f"{split}{number * factor % 9973}" for factor in (31, 577, 1009, 4001))
                writer.writerow([f"{words} {hint} {hint} {named}".strip(), label])
        sources.append({"path": f"{split}.csv", "split": split, "source": {"origin": "written for this test", "license": "Apache-2.0"}})
    content = yaml.safe_load(path.read_text()) | {"data": sources}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("ladder", "choice"), [("auto", Choice.CLIMB), (["floor", "prompt"], Choice.LOOK)], ids=["a rung is left", "another rung passed on dev"]
)
def test_what_the_sealed_test_does_not_confirm_makes_way_for_the_next_that_passes(
    deps: Dependencies, author: Actor, tmp_path: Path, ladder: object, choice: Choice
) -> None:
    ended = adapt(deps, author, write_turning(tmp_path / "job", ladder=ladder), Progress())
    assert ended.conclusion.release is not None
    told = show_run(deps, VIEWER, ended.run.id)
    first, second = told.looks
    assert (first.look, first.choice, second.look, second.choice) == (1, choice, 2, Choice.STOP)
    assert told.test == second
    assert (told.gate.verdict, told.gate.adjusted_confidence) == (Verdict.PASS, spend(0.9, 2))
    found = ladder_of(deps, ended)
    assert found.unconfirmed == (found.floor.candidate,)
    assert "the sealed test did not confirm floor" in found.reason
    assert "not confirmed" in ladder_markdown(found, told.objective)
    assert [step.name for step in ended.steps][-5:] == ["choose", "test", "choose 2", "test 2", "conclude"] or ladder == "auto"
    with deps.ledger.work("acme", write=False) as work:
        assert work.looks.count("desk") == 2
        assert work.records.get(GateResult, first.gate).verdict is not Verdict.PASS
        assert work.releases.get(ended.conclusion.release).content.candidate == second.candidate == found.chosen


def test_a_run_that_no_look_confirms_ends_without_a_release(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_turning(tmp_path / "job", prompt_is_right=False, ladder=["floor", "prompt"])
    ended = adapt(deps, author, path, Progress())
    told = show_run(deps, VIEWER, ended.run.id)
    assert ended.conclusion.release is None
    assert "did not confirm" in ended.conclusion.reason
    assert all(look.goes_on for look in told.looks[:-1])
    assert len({look.candidate for look in told.looks}) == len(told.looks) > 1
    page = show_evidence(deps, VIEWER, ended.run.id)
    assert page.evidence.candidate == told.looks[-1].candidate
    assert compare(deps, VIEWER, ended.run.id, f"{ended.run.id}:floor").one.candidate == told.looks[-1].candidate


def test_a_look_that_could_prove_nothing_is_not_made(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """18 items can prove 0.8 at the first look, and not at the stricter second."""
    ended = adapt(deps, author, write_turning(tmp_path / "job", tested=18), Progress())
    told = show_run(deps, VIEWER, ended.run.id)
    assert [look.choice for look in told.looks] == [Choice.STOP]
    assert "look 2 could not prove accuracy >= 0.8" in ended.conclusion.reason
