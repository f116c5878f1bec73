"""What no candidate could prove is refused before anything is spent, with the line, the reason and the nearest valid value."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from support.release import manifest
from support.usecases import write_objective
from tailorbird.domain.dataset import SnapshotManifest, SplitCounts
from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.ladder import Choice, Ladder
from tailorbird.domain.objective import RiskTier
from tailorbird.domain.plan import PreflightSeverity
from tailorbird.stats.intervals import spend, wilson
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.provability import thin_labels_finding, trivial_target_finding

SILENT = Progress()


def small(folder: Path, rows: int, **changes: object) -> Path:
    """An objective over the first ``rows`` rows alone."""
    path = write_objective(folder, **changes)
    lines = (folder / "rows.csv").read_text().splitlines()
    (folder / "rows.csv").write_text("\n".join(lines[: rows + 1]) + "\n")
    return path


def refused(deps: Dependencies, author: Actor, path: Path) -> ObjectiveInvalid:
    with pytest.raises(ObjectiveInvalid) as caught:
        climbing.plan(deps, author, path, SILENT)
    return caught.value


LOOSE = {"metric": "accuracy", "target": 0.3}


@pytest.mark.parametrize(
    ("kpi", "says", "hint"),
    [
        ({"metric": "ece", "target": 0.2}, "ece <= 0.2", "holds at least 40"),
        ({"metric": "macro_f1", "target": 0.9}, "macro_f1 >= 0.9", "lower the target to 0."),
        ({"metric": "recall[login]", "target": 0.8}, "recall[login] >= 0.8", "lower the target to 0."),
        ({"metric": "precision[login]", "target": 0.8}, "precision[login] >= 0.8", "lower the target to 0."),
        ({"metric": "balanced_accuracy", "target": 0.95}, "balanced_accuracy >= 0.95", "lower the target to 0."),
    ],
)
def test_every_kind_of_metric_that_perfection_would_not_prove_is_refused(
    deps: Dependencies, author: Actor, tmp_path: Path, kpi: dict[str, object], says: str, hint: str
) -> None:
    error = refused(deps, author, small(tmp_path / "few", 60, kpis=[LOOSE, kpi]))
    assert says in error.message
    assert hint in error.hint
    line = error.message.split(":")[1]
    assert "target" in (tmp_path / "few" / "objective.yaml").read_text().splitlines()[int(line) - 1]


def test_the_rows_that_a_hint_asks_for_would_do(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = small(tmp_path / "few", 60, kpis=[{"metric": "accuracy", "target": 0.99}])
    draw = Random(1)
    lines = [",".join(("".join(draw.choices("abcdefghij", k=30)), ("login", "refund")[number % 2])) for number in range(60)]
    (path.parent / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    error = refused(deps, author, path)
    needed = int(re.findall(r"at least ([\d,]+) that bear on it", error.hint)[0].replace(",", ""))
    confidence = spend(RiskTier.LIMITED.confidence, 1)
    assert wilson(needed, needed, confidence)[0] >= 0.99 > wilson(needed - 1, needed - 1, confidence)[0]


def test_a_dev_set_that_can_never_pass_is_refused_although_test_could(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """The climb chooses on dev: what dev cannot prove is never released."""
    path = small(tmp_path / "lopsided", 200)
    content = yaml.safe_load(path.read_text())
    lines = (tmp_path / "lopsided" / "rows.csv").read_text().splitlines()
    for name, start, end in (("train", 1, 120), ("dev", 120, 126), ("test", 126, 201)):
        (tmp_path / "lopsided" / f"{name}.csv").write_text("\n".join([lines[0], *lines[start:end]]) + "\n")
    source = content["data"][0]["source"]
    content["data"] = [{"path": f"{name}.csv", "source": source, "split": name} for name in ("train", "dev", "test")]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    error = refused(deps, author, path)
    assert "dev cannot prove accuracy >= 0.8" in error.message
    assert "a source with `split: dev` puts its rows there" in error.hint


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "recall[login]", "balanced_accuracy"])
def test_the_target_of_a_hint_is_refused_by_no_split(deps: Dependencies, author: Actor, tmp_path: Path, metric: str) -> None:
    error = refused(deps, author, small(tmp_path / "first", 75, kpis=[{"metric": metric, "target": 0.99}]))
    offered = float(error.hint.rpartition("lower the target to ")[2])
    climbing.plan(deps, author, small(tmp_path / "again", 75, kpis=[{"metric": metric, "target": offered}]), SILENT)


def test_a_drop_that_the_probes_cannot_prove_is_refused_with_the_nearest_one(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "kept", limits={"retention": {"max_drop": 0.001}})
    error = refused(deps, author, path)
    assert "406 probes cannot prove a drop of at most 0.001" in error.message
    nearest = float(error.hint.removeprefix("the nearest valid value is ").partition(",")[0])
    assert 0.005 < nearest < 0.02
    climbing.plan(deps, author, write_objective(tmp_path / "kept", limits={"retention": {"max_drop": nearest}}), SILENT)
    # What changes no weight has lost nothing.
    climbing.plan(deps, author, write_objective(tmp_path / "kept", ladder=["prompt"], limits={"retention": {"max_drop": 0.0}}), SILENT)


def test_a_limit_on_latency_needs_as_many_texts_as_bound_it(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    limits = {"latency_p95_ms": {"max": 500}}
    error = refused(deps, author, small(tmp_path / "few", 60, kpis=[LOOSE], limits=limits))
    assert "requests bound a 95th percentile" in error.message
    assert "more rows, or remove the limit" in error.hint


def test_a_limit_that_the_shortest_prompt_misses_ends_the_climb_at_once(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "slow", hard_share=2, limits={"latency_p95_ms": {"max": 0.0001}})
    ended = climbing.adapt(deps, author, path, SILENT)
    assert ended.conclusion.release is None
    ladder = _ladder(deps, ended.conclusion.ladder)
    (only,) = ladder.climbs
    assert (only.variant, only.choice) == ("zero-shot", Choice.REFUSE)
    assert "no rung that is left can meet the limit" in only.reason
    assert "latency_p95_ms" in only.reason
    assert "a faster machine, a smaller base model or a looser limit" in only.reason
    assert not list((deps.runs).glob("*/make-lora*"))


def test_a_look_that_nothing_could_pass_is_told_beforehand(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    told: list[str] = []
    with deps.ledger.work("acme") as work:
        for number in range(40):
            work.looks.add("desk", f"sha256:{number:064x}", f"sha256:{number:064x}")
    path = small(tmp_path / "looked", 130, kpis=[{"metric": "accuracy", "target": 0.75}])
    climbing.plan(deps, author, path, Progress(tell=told.append))
    assert any("look 41 at the sealed test could not prove accuracy" in line for line in told)


def _ladder(deps: Dependencies, digest: str) -> Ladder:
    with deps.ledger.work("acme", write=False) as work:
        return work.records.get(Ladder, digest)


def _counted(**labels: tuple[int, int, int]) -> SnapshotManifest:
    counts = {label: SplitCounts(train=train, dev=dev, test=test) for label, (train, dev, test) in labels.items()}
    total = SplitCounts(**{split: sum(getattr(one, split) for one in counts.values()) for split in ("train", "dev", "test")})
    return manifest().model_copy(update={"label_counts": counts, "counts": total})


def test_labels_that_a_split_hardly_holds_are_named() -> None:
    found = thin_labels_finding(_counted(login=(100, 20, 20), trouble=(52, 1, 12), use=(40, 8, 0)))
    assert found.severity is PreflightSeverity.WARNING
    assert "'trouble': 1 of 65 rows in dev; 'use': 0 of 48 rows in test" in found.what


@pytest.mark.parametrize(("kpis", "told"), [([0.4], True), ([0.61], False), ([0.4, "macro_f1"], False)])
def test_a_target_that_one_label_for_all_reaches_is_told(kpis: list[Any], told: bool) -> None:
    kpi = [SimpleNamespace(metric="accuracy", target=kpis[0]), *(SimpleNamespace(metric=name, target=0.4) for name in kpis[1:])]
    objective = SimpleNamespace(kpis=kpi, task=SimpleNamespace(labels="one"))
    found = trivial_target_finding(cast(Any, objective), _counted(low=(300, 60, 60), high=(200, 40, 40)))
    assert (found is not None) is told
    assert found is None or "accuracy 0.4 is reached by answering 'low' whatever is asked: it is right of 0.600" in found.what


def test_upper_bounds_and_referrals_are_held_against_perfection_too(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = small(tmp_path / "sure", 90, kpis=[LOOSE], referral={"max_error": 0.01})
    error = refused(deps, author, path)
    assert "selective_risk <= 0.01" in error.message
    assert "raise the target to 0." in error.hint


def test_nothing_shows_a_model_when_to_hand_over(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    kpi, task = {"metric": "exact_match", "target": 0.3}, {"kind": "generate", "instruction": "Reply."}
    generating = {"kpis": [kpi], "task": task}
    error = refused(deps, author, small(tmp_path / "never", 200, referral={"pattern": "a colleague"}, **generating))
    assert "the pattern occurs in none of the answers of" in error.message
    found = small(tmp_path / "some", 200, referral={"pattern": "log.n"}, **generating)
    climbing.plan(deps, author, found, SILENT)
    kpis = [kpi, {"metric": "referral_recall", "target": 0.95}]
    error = refused(deps, author, small(tmp_path / "proof", 200, referral={"pattern": "login"}, **generating | {"kpis": kpis}))
    assert "cannot prove referral_recall >= 0.95" in error.message


def test_answers_that_shall_cost_nothing_are_refused(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    error = refused(deps, author, write_objective(tmp_path / "free", limits={"cost_per_1k_requests": {"max": 0}}))
    assert "no answer costs nothing" in error.message


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"a": (72, 4, 4), "b": (8, 6, 6)}, False),  # half of its share
        ({"a": (110, 5, 5), "b": (50, 15, 15)}, False),  # five rows
        ({"a": (46, 2, 2), "b": (34, 8, 8)}, True),  # a share of five
    ],
)
def test_a_label_is_named_where_a_split_holds_less_than_half_of_its_share_and_fewer_than_five(
    labels: dict[str, tuple[int, int, int]], named: bool
) -> None:
    assert (thin_labels_finding(_counted(**labels)) is not None) is named


def test_answers_that_decline_do_not_count_against_a_perfect_candidate(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    kpis = [{"metric": "rouge_l", "target": 0.3}, {"metric": "refusal_rate", "target": 0.2}]
    path = write_objective(tmp_path / "job", task={"kind": "generate", "instruction": "Answer."}, kpis=kpis)
    lines = (path.parent / "rows.csv").read_text().splitlines()
    answers = (
        f"{line.rpartition(',')[0]},{'I cannot help' if number % 2 else 'It is'} with case {number}"
        for number, line in enumerate(lines[1:])
    )
    (path.parent / "rows.csv").write_text("\n".join([lines[0], *answers]) + "\n")
    climbing.plan(deps, author, path, SILENT)


def test_labels_that_are_rare_or_evenly_split_are_not_named() -> None:
    assert thin_labels_finding(_counted(login=(100, 20, 20), rare=(10, 0, 1), trouble=(40, 7, 9))) is None
