"""One metric for every comparison of an objective: resolved in the plan, used by the climb, told everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from support.usecases import VIEWER, write_objective
from tailorbird.domain.errors import Conflict, Corrupt, ObjectiveInvalid
from tailorbird.domain.evidence import Standing
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.runs import measurement
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.queries import show_run

LEVELS = {"kind": "classify", "instruction": "Classify the message.", "label_order": ["login", "delivery", "refund"]}


@pytest.mark.parametrize(
    ("changes", "metric", "chosen"),
    [
        ({"compare_on": "log_loss"}, "log_loss", 0.05),
        ({"compare_on": "macro_f1", "margin": {"log_loss": 0.2, "macro_f1": 0.3}}, "macro_f1", 0.3),
        ({"task": LEVELS, "kpis": [{"metric": "within_one", "target": 0.8}], "compare_on": "ordinal_score"}, "ordinal_score", 0.02),
        ({"compare_on": "coverage", "referral": {"max_error": 0.3}}, "coverage", 0.02),
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
        ({"compare_on": "accuracy", "margin": 0.6}, "at most 0.5"),
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
