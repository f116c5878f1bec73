"""Number formats of the engine: the same dev rows in each, compared with the one that is set; later plans show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from support.usecases import write_objective
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Forbidden, InvalidInput, ModelInvalid
from tailorbird.domain.evidence import Standing
from tailorbird.domain.number_format import FormatMeasurement, NumberFormat
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LabelScores
from tailorbird.testing import FixedClock, MemoryEngine
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.dependencies import EngineFormats
from tailorbird.usecases.runs.plan_variants import plan_shown, plan_with_formats
from tailorbird.usecases.runs.submit import adapt

SILENT = Progress()
AUTO, INT8 = NumberFormat(), NumberFormat(precision="int8")


class Held(MemoryEngine):
    """An engine in one format, which gives every ``wrong``-th row the first label; 0: none."""

    def __init__(self, name: str, wrong: int = 0) -> None:
        super().__init__()
        self.name, self.wrong, self.closed = name, wrong, False
        self.asked: list[str] = []

    def fingerprint(self) -> str:
        return f"twin 1 {self.name}"

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        found = super().score(servable, prompts, labels)
        first = len(self.asked)
        self.asked += [prompt[-1].content for prompt in prompts]
        always = tuple(-0.1 if place == 0 else -5.0 for place, _ in enumerate(labels))
        hit = [bool(self.wrong) and (first + place) % self.wrong == 0 for place, _ in enumerate(prompts)]
        return [one.model_copy(update={"log_probabilities": always}) if wrong else one for one, wrong in zip(found, hit, strict=True)]

    def close(self) -> None:
        super().close()
        self.closed = True


class Machine:
    """What opens engines; ``auto`` is bf16 here, int8 errs where ``wrong`` says so, and adapters in 4 bits are refused."""

    def __init__(self, wrong: int = 0) -> None:
        self.wrong = wrong
        self.opened: list[Held] = []

    def open(self, wish: NumberFormat) -> Held:
        if wish.adapters == "int4":
            raise InvalidInput("adapters in 4 bits are computed by the native pass alone", "set engine_adapters to auto")
        name = "bf16" if wish.precision == "auto" else wish.precision
        self.opened.append(Held(name, self.wrong if name == "int8" else 0))
        return self.opened[-1]


def with_formats(deps: Dependencies, machine: Machine, chosen: NumberFormat = AUTO) -> Dependencies:
    return replace(deps, formats=EngineFormats(chosen, machine.open))


def measured(deps: Dependencies, author: Actor, path: Path, machine: Machine, chosen: NumberFormat = AUTO) -> FormatMeasurement:
    _, plan = plan_with_formats(with_formats(deps, machine, chosen), author, path, SILENT)
    (one,) = plan.formats
    return one


def test_each_format_answers_the_same_dev_rows_once(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    machine = Machine()
    one = measured(deps, author, objective_path, machine)
    assert [(reading.format, reading.fingerprint) for reading in one.readings] == [(AUTO, "twin 1 bf16"), (INT8, "twin 1 int8")]
    asked = [engine.asked for engine in machine.opened if engine.asked]
    assert len(asked) == 2
    assert set(asked[0]) == set(asked[1])
    assert len(asked[0]) == one.rows
    assert all(engine.closed for engine in machine.opened)
    assert one.label == "zero-shot prompt on base"


def test_what_a_format_loses_is_paired_with_the_one_that_is_set(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    as_set, int8 = measured(deps, author, objective_path, Machine(wrong=3)).readings
    assert as_set.score is not None
    assert int8.score is not None
    assert int8.difference is not None
    assert as_set.difference is None
    assert int8.difference.difference == pytest.approx(int8.score.value - as_set.score.value)
    assert int8.difference.standing is Standing.WORSE
    assert int8.differ >= int8.difference.losses + int8.difference.wins > 0


def test_the_same_answers_are_no_loss(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    _, int8 = measured(deps, author, objective_path, Machine()).readings
    assert int8.difference is not None
    assert (int8.difference.difference, int8.differ, int8.difference.low <= 0 <= int8.difference.high) == (0.0, 0, True)


def test_the_format_that_is_set_comes_first(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    assert [reading.format.precision for reading in measured(deps, author, objective_path, Machine(), INT8).readings] == ["int8", "bf16"]


def test_an_adapter_of_the_climb_answers_and_what_the_machine_does_not_compute_is_said(
    deps: Dependencies, author: Actor, tmp_path: Path
) -> None:
    path = write_objective(tmp_path / "job", ladder=["lora"])
    adapt(deps, author, path, SILENT)
    one = measured(deps, author, path, Machine())
    assert one.label == "lora r16 on base"
    refused = [reading for reading in one.readings if reading.refused]
    assert [reading.format for reading in refused] == [NumberFormat(adapters="int4"), NumberFormat(precision="int8", adapters="int4")]
    assert "native pass alone" in refused[0].refused
    assert all(reading.score is None for reading in refused)


def test_a_model_that_an_engine_refuses_in_the_format_that_is_set_is_an_error(
    deps: Dependencies, author: Actor, objective_path: Path
) -> None:
    class Refusing(Held):
        def load(self, servable: Servable, *, pinned: bool = False) -> None:
            raise ModelInvalid(f"{self.name} cannot be had", "set engine_precision to auto", code="precision")

    only_bf16 = EngineFormats(AUTO, lambda wish: (Refusing if wish == INT8 else Held)(wish.precision))
    _, plan = plan_with_formats(replace(deps, formats=only_bf16), author, objective_path, SILENT)
    assert [reading.refused for reading in plan.formats[0].readings] == ["", "", "int8 cannot be had"]
    with pytest.raises(ModelInvalid):
        plan_with_formats(replace(deps, formats=only_bf16._replace(chosen=INT8)), author, objective_path, SILENT)


def test_later_plans_show_it_and_the_frozen_one_stays(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    run, before = plan_shown(deps, author, objective_path, SILENT)
    again, shown = plan_with_formats(with_formats(deps, Machine()), author, objective_path, SILENT)
    assert (run.id, before.formats) == (again.id, ())
    assert shown.model_copy(update={"formats": ()}) == before
    assert plan_shown(deps, author, objective_path, SILENT)[1] == shown
    changed = objective_path.read_text().replace("Route messages.", "Route all messages.")
    objective_path.write_text(changed)
    _, of_next_run = plan_shown(deps, author, objective_path, SILENT)
    assert of_next_run.formats == shown.formats
    with deps.ledger.work("acme", write=False) as work:
        assert work.looks.count("desk") == 0
        (event,) = [entry.event for entry in work.events.latest(20) if entry.event.kind == "formats.measured"]
        assert event.data["formats"] == 2


def test_what_is_a_month_old_is_not_shown(deps: Dependencies, author: Actor, objective_path: Path) -> None:
    plan_with_formats(with_formats(deps, Machine()), author, objective_path, SILENT)
    assert isinstance(deps.clock, FixedClock)
    deps.clock.advance(timedelta(days=31))
    assert plan_shown(deps, author, objective_path, SILENT)[1].formats == ()


@pytest.mark.parametrize(
    ("changes", "with_engine", "code"),
    [({}, False, "formats_engine"), ({"ladder": ["floor"]}, True, "formats_task")],
)
def test_what_has_no_format_is_refused(
    deps: Dependencies, author: Actor, tmp_path: Path, changes: dict[str, object], with_engine: bool, code: str
) -> None:
    path = write_objective(tmp_path / "job", **changes)
    with pytest.raises(InvalidInput) as caught:
        plan_with_formats(with_formats(deps, Machine()) if with_engine else deps, author, path, SILENT)
    assert caught.value.error_code == code


def test_nobody_but_an_author_measures(deps: Dependencies, operator: Actor, objective_path: Path) -> None:
    with pytest.raises(Forbidden):
        plan_with_formats(with_formats(deps, Machine()), operator, objective_path, SILENT)
