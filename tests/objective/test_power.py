"""KPIs against the data: labels that exist, and test sets large enough to prove a target."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.dataset import SnapshotManifest, SplitCounts
from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.objective import Business, DataOrigin, DataSource, Kpi, Objective, RiskTier, Task, TaskKind
from tailorbird.objective import ObjectiveFile, check_labels, split_power
from tailorbird.stats.intervals import spend, wilson

ZERO = "sha256:" + "0" * 64


def file_with(*kpis: tuple[str, float], risk: RiskTier = RiskTier.LIMITED, labels: Literal["one", "many"] = "one") -> ObjectiveFile:
    objective = Objective(
        name="o",
        tenant="t",
        business=Business(goal="g", owner="o", risk=risk),
        task=Task(kind=TaskKind.CLASSIFY, labels=labels, instruction="i"),
        data=(DataSource(path="a.csv", source=DataOrigin(origin="o", license="l")),),
        kpis=tuple(Kpi(metric=metric, target=target) for metric, target in kpis),
    )
    lines = {"": 1} | {f"kpis.{index}.{key}": 10 + index for index in range(len(kpis)) for key in ("metric", "target")}
    return ObjectiveFile(objective=objective, folder=".", lines=lines, source="o.yaml")


def manifest_with(test: int, dev: int = 50, **labels: int) -> SnapshotManifest:
    return SnapshotManifest(
        tenant="t",
        objective="o",
        rows=ZERO,
        quarantine=ZERO,
        read=0,
        duplicates=0,
        quarantined=0,
        counts=SplitCounts(train=100, dev=dev, test=test),
        label_counts={label: SplitCounts(train=1, dev=1 if dev == 50 else dev, test=count) for label, count in labels.items()},
        near_duplicate_groups=0,
        files={},
        salt="",
        text_length_p95=1,
        text_length_max=1,
        curation="sha256:" + "0" * 64,
        root="00",
        seal="sha256:" + "0" * 64,
    )


def test_a_label_that_the_data_lacks_is_refused_with_line_and_nearest() -> None:
    with pytest.raises(ObjectiveInvalid) as caught:
        check_labels(file_with(("accuracy", 0.9), ("recall[refnd]", 0.8)), manifest_with(100, refund=50, other=50))
    assert caught.value.line == 11
    assert "'refund'" in caught.value.hint


def test_a_target_that_the_test_set_cannot_prove() -> None:
    for rows, provable in ((66, False), (67, True)):
        power = split_power(file_with(("accuracy", 0.9), ("recall[refund]", 0.95)), manifest_with(400, dev=400, refund=rows))[1]
        assert [each.provable for each in power] == [True, provable]
    assert not split_power(file_with(("accuracy", 0.5)), manifest_with(0))[1][0].provable


@given(st.integers(1, 400), st.floats(0.01, 0.99), st.sampled_from(RiskTier))
def test_must_observe_is_the_smallest_that_proves(n: int, target: float, tier: RiskTier) -> None:
    confidence = spend(tier.confidence, 1)
    power = split_power(file_with(("accuracy", target), risk=tier), manifest_with(n))[1][0]
    if not power.provable:
        assert wilson(n, n, confidence)[0] < target
        return
    proven = [hits for hits in range(n + 1) if wilson(hits, n, confidence)[0] >= target]
    assert power.must_observe == proven[0] / n


def test_with_several_labels_only_proportions_are_looked_at() -> None:
    kpis = (
        ("micro_f1", 0.99),
        ("macro_f1", 0.99),
        ("f1[rare]", 0.99),
        ("exact_match", 0.5),
        ("recall[rare]", 0.4),
        ("precision[rare]", 0.4),
    )
    file, manifest = file_with(*kpis, labels="many"), manifest_with(60, rare=9, common=55)
    check_labels(file, manifest)
    dev, test = split_power(file, manifest)
    assert [power.kpi for power in dev] == ["exact_match", "recall[rare]", "precision[rare]"]
    assert [power.n for power in test] == [60, 9, 9]
    assert not split_power(file_with(("recall[rare]", 0.95), labels="many"), manifest)[1][0].provable
    with pytest.raises(ObjectiveInvalid):
        check_labels(file_with(("f1[rase]", 0.5), labels="many"), manifest)


def test_items_that_share_groups_prove_less_and_are_told_so() -> None:
    file, manifest = file_with(("accuracy", 0.8)), manifest_with(200, dev=200)
    alone = split_power(file, manifest)[1][0]
    shared = split_power(file, manifest, lambda _split, _label: (5,) * 40)[1][0]
    assert (alone.groups, shared.groups, shared.n) == (None, 40, 200)
    assert shared.must_observe > alone.must_observe
    assert shared.must_be is not None
    assert alone.must_be is not None
    assert shared.must_be > alone.must_be
    assert not split_power(file, manifest, lambda _split, _label: (25,) * 8)[1][0].provable
