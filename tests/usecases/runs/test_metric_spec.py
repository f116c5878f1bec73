"""One metric for every comparison of an objective: resolved in the plan, used by the climb, told everywhere."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from support.doubles import MemoryEngine
from support.usecases import VIEWER, write_objective
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Conflict, Corrupt, ObjectiveInvalid
from tailorbird.domain.evidence import Standing
from tailorbird.domain.ladder import Ladder
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Generation
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.runs import measurement
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.queries import RunReport, show_run

LEVELS = {"kind": "classify", "instruction": "Classify the message.", "label_order": ["login", "delivery", "refund"]}


class Speaker(MemoryEngine):
    """Answers near the reference, and never in its words, where demonstrations stand in the prompt; far from it where none does."""

    def generate(
        self, servable: Digest, prompts: Sequence[Sequence[Message]], sampling: Sampling, on_text: object = None
    ) -> list[Generation]:
        del sampling, on_text
        shown = self._shown[servable]
        texts = [prompt[-1].content for prompt in prompts]
        said = [f"We say: {text}" if shown else " ".join(text.split()[:2]) for text in texts]
        return [
            Generation(text=text, finish_reason="stop", prompt_tokens=9, completion_tokens=len(text.split()), latency_ms=1.0)
            for text in said
        ]

    def load(self, servable: Servable, *, pinned: bool = False) -> None:
        super().load(servable, pinned=pinned)
        self._shown = getattr(self, "_shown", {}) | {servable.id: bool(servable.prompt.demonstrations)}


def write_generating(folder: Path, **changes: object) -> Path:
    """500 questions whose answers repeat the question in other words around it."""
    folder.mkdir()
    path = write_objective(folder, **({"task": {"kind": "generate", "instruction": "Answer."}, "ladder": ["prompt"]} | changes))
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(900):
            text = " ".join(f"w{(number * factor) % 9973}" for factor in (31, 577, 1009, 4001, 7919))
            writer.writerow([text, f"You asked about {text} today"])
    return path


def adapted(deps: Dependencies, author: Actor, path: Path) -> tuple[RunReport, Ladder]:
    speaker = Speaker()
    run = climbing.adapt(replace(deps, engine=lambda: speaker), author, path, Progress()).run
    told = show_run(deps, VIEWER, run.id)
    assert told.ladder is not None
    return told, told.ladder


def test_the_better_answers_win_though_none_is_exact(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """KPI chrf: few-shot answers are far nearer to the references. By exact match both score nothing, and zero-shot was released."""
    told, ladder = adapted(deps, author, write_generating(tmp_path / "job", kpis=[{"metric": "chrf", "target": 0.2}]))
    zero, few = ladder.climbs
    assert [climb.gate.verdict.value for climb in ladder.climbs] == ["pass", "pass"]
    assert (few.against_below.metric, few.against_below.standing) == ("chrf", Standing.BETTER)
    assert ladder.chosen == few.candidate
    assert "chrf" in ladder.reason
    assert (told.plan.comparison.metric, told.plan.comparison.margin, told.plan.comparison.unit) == ("chrf", 0.02, "share")
    assert (ladder.compared_on, few.evidence.compared_on) == ("chrf", "chrf")
    assert zero.evidence.metrics["exact_match"].value == few.evidence.metrics["exact_match"].value == 0


@pytest.mark.parametrize(
    ("changes", "metric", "chosen"),
    [
        ({"compare_on": "log_loss"}, "log_loss", 0.05),
        ({"compare_on": "brier", "margin": 0.1}, "brier", 0.1),
        ({"compare_on": "macro_f1", "margin": {"log_loss": 0.2, "macro_f1": 0.3}}, "macro_f1", 0.3),
        ({"compare_on": "recall[refund]", "margin": {"recall": 0.25}}, "recall[refund]", 0.25),
        ({"compare_on": "ece"}, "ece", 0.02),
        ({"task": LEVELS, "kpis": [{"metric": "within_one", "target": 0.8}], "compare_on": "ordinal_score"}, "ordinal_score", 0.02),
        ({"compare_on": "coverage", "referral": {"max_error": 0.3}}, "coverage", 0.02),
        ({"compare_on": "selective_risk", "referral": {"max_error": 0.3}}, "selective_risk", 0.02),
        ({"kpis": [{"metric": "recall[refund]", "target": 0.5}, {"metric": "accuracy", "target": 0.6}], "margin": 0.04}, "accuracy", 0.04),
    ],
)
def test_a_climb_compares_on_any_metric(
    deps: Dependencies, author: Actor, tmp_path: Path, changes: dict[str, object], metric: str, chosen: float
) -> None:
    """The last case: so few items bear the label that no tie could be proven there, so the next KPI is taken."""
    path = write_objective(tmp_path / "job", ladder=["prompt", "lora"], **changes)
    told = show_run(deps, VIEWER, climbing.adapt(deps, author, path, Progress()).run.id)
    assert (told.plan.comparison.metric, told.plan.comparison.margin) == (metric, chosen)
    assert told.ladder.chosen is not None
    compared = [climb.against_below for climb in told.ladder.climbs if climb.against_below]
    assert [one.metric for one in compared] == [metric] * 2
    assert {one.standing for one in compared} <= {Standing.TIE, Standing.NOT_PROVEN}
    assert not any(one.reason for one in compared)


def test_what_can_never_be_compared_is_refused_when_it_is_read(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    for changes, says in (
        ({"compare_on": "latency_p95_ms"}, "not compared on latency_p95_ms"),
        ({"compare_on": "chrf"}, "does not fit a task"),
        ({"compare_on": "coverage"}, "left to people"),
        ({"compare_on": "recall"}, "needs a label"),
        ({"compare_on": "accuracy", "margin": 0.6}, "at most 0.5"),
        ({"margin": {"chrf": 0.1}}, "does not fit a task"),
        ({"margin": {"brier": 1.5}}, "at most 1"),
        ({"compare_on": "recall[nothing]"}, "label 'nothing'"),
    ):
        path = write_objective(tmp_path / "job", **changes)
        with pytest.raises(ObjectiveInvalid) as caught:
            climbing.adapt(deps, author, path, Progress())
        assert says in caught.value.message
    assert yaml.safe_load(path.read_text())["name"] == "desk"


def looks_of(deps: Dependencies, author: Actor, folder: Path, **changes: object) -> int:
    run = climbing.adapt(deps, author, write_objective(folder, **changes), Progress()).run
    test = show_run(deps, VIEWER, run.id).test
    return test.look


def test_asking_the_sealed_test_something_else_is_another_look(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """A target that is lowered after a look has been chosen by the test: it pays. Other words, and KPIs in another order, ask the same."""
    kpis = [{"metric": "accuracy", "target": 0.8}, {"metric": "macro_f1", "target": 0.7}]
    assert looks_of(deps, author, tmp_path / "job", kpis=kpis) == 1
    worded = [kpis[1], kpis[0] | {"because": "as good as people"}]
    assert looks_of(deps, author, tmp_path / "job", kpis=worded, compare_on="accuracy") == 1
    lower = [kpis[0] | {"target": 0.75}, kpis[1]]
    assert looks_of(deps, author, tmp_path / "job", kpis=lower) == 2
    assert looks_of(deps, author, tmp_path / "job", kpis=kpis, compare_on="log_loss") == 3
    assert looks_of(deps, author, tmp_path / "job", kpis=kpis[:1]) == 4
    with deps.ledger.work("acme", write=False) as work:
        assert work.looks.count("desk") == 4


def test_an_incumbent_that_cannot_be_measured_keeps_the_run_from_a_release_until_it_can_or_is_taken_back(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No candidate passes by a limit that nobody looked at. The same command goes on afterwards, and the look is not paid for twice."""
    first = climbing.adapt(deps, author, write_objective(tmp_path / "job"), Progress())
    assert first.conclusion.release is not None
    promotion.sign_and_decide(deps, approver, first.conclusion.release, "approve", "read")
    promotion.stage(deps, operator, first.conclusion.release)
    promotion.promote(deps, operator, first.conclusion.release)

    def refuse(*_: object) -> None:
        raise Corrupt("a file of it was changed", "restore a backup")

    monkeypatch.setattr(measurement, "admit", refuse)
    path = write_objective(tmp_path / "job", ladder=["lora"])
    with pytest.raises(Conflict, match=r"cannot be measured beside the candidate: a file of it was changed") as error:
        climbing.adapt(deps, author, path, Progress())
    assert error.value.error_code == "incumbent_unmeasured"
    assert "tailorbird rollback desk" in error.value.hint
    promotion.roll_back(deps, operator, "desk", "broken", withdraw=True)
    second = climbing.adapt(deps, author, path, Progress())
    assert second.conclusion.release is not None
    with deps.ledger.work("acme", write=False) as work:
        assert work.looks.count("desk") == 2
