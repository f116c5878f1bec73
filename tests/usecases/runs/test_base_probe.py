"""Base-model probes: the same dev rows for each base, and what follows for the ladder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from support.bases import Biased, author_of, two_bases
from support.usecases import write_objective
from tailorbird.domain.dataset import Split
from tailorbird.domain.plan import Plan
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.snapshot_and_plan import PROBED_ROWS, probed_rows

SILENT = Progress()


def planned_with(deps: Dependencies, folder: Path, weak_width: int, **changes: object) -> Plan:
    engine = Biased(weak_width)
    biased = replace(deps, engine=lambda: engine)
    plan = climbing.plan(biased, author_of(biased), two_bases(folder, **changes), SILENT).plan
    assert plan is not None
    return plan


def test_a_base_that_is_proven_worse_at_no_lower_cost_is_left_out(another_parts: Callable[[], Dependencies], tmp_path: Path) -> None:
    plan = planned_with(another_parts(), tmp_path / "job", weak_width=16)
    base, wide = plan.bases
    assert base.probe.rows == wide.probe.rows <= PROBED_ROWS
    assert wide.probe.score.low <= wide.probe.score.value <= wide.probe.score.high < base.probe.score.low
    assert (base.probe.worse_than, [than.label for than in wide.probe.worse_than]) == ((), ["base"])
    assert wide.rungs == 0
    assert "proven worse than base on the same" in wide.reason
    assert {rung.base for rung in plan.rungs} == {base.base}
    assert [refusal.name for refusal in plan.left_out if "proven worse" in refusal.reason] == ["prompt zero-shot on wide"]


def test_a_base_that_is_worse_and_cheaper_stays(another_parts: Callable[[], Dependencies], tmp_path: Path) -> None:
    plan = planned_with(another_parts(), tmp_path / "job", weak_width=8)
    assert [than.label for base in plan.bases if base.probe for than in base.probe.worse_than] == ["wide"]
    assert all(base.rungs for base in plan.bases)


def test_probes_read_dev_alone(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    rows = climbing.plan(deps, author, write_objective(tmp_path / "job"), SILENT)
    seen = {row.id for row in probed_rows(rows)}
    assert seen <= {row.id for row in rows.rows(Split.DEV)}
    assert seen.isdisjoint({row.id for row in rows.rows(Split.TEST)})
