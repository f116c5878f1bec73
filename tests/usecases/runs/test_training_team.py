"""A training that is placed on several nodes: what its task ends with, whoever of them ends first. Nodes are processes of this machine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.placed_tasks import plain
from tailorbird.domain.compute import ComputeNode, StepNeed
from tailorbird.domain.errors import Exhausted, TailorbirdError, Unavailable
from tailorbird.testing import ProcessCompute
from tailorbird.usecases.runs import training_team
from tailorbird.usecases.runs.step_placement import StepAnswer, StepFault
from tailorbird.usecases.runs.training_team import PlacedTeam, require_room_for_team

NEED = StepNeed(cores=1, memory_gb=1.0)
DONE = f"echo {StepAnswer().model_dump_json()}"


def nodes(*cores: int) -> list[ComputeNode]:
    return [ComputeNode(host=f"n{number}", cores=each, memory_gb=4.0, here=True) for number, each in enumerate(cores)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_team, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(training_team, "_LAST_SECONDS", 1.0)


def failing(error: TailorbirdError) -> str:
    return f"echo {StepAnswer(fault=StepFault.of(error)).model_dump_json()}"


def ended(*tasks: str) -> PlacedTeam:
    """The team, once it has ended: whoever sleeps is awake or interrupted by then."""
    team = PlacedTeam(ProcessCompute(plain, nodes(1, 1)).place_together([(task, NEED) for task in tasks]))
    deadline = time.monotonic() + 60
    while not team.ended(0.2):
        assert time.monotonic() < deadline, "the team does not end"
    return team


def said(file: Path) -> str:
    deadline = time.monotonic() + 20
    while file.read_text() == "asleep":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return file.read_text()


def test_it_ends_with_the_one_that_leads(tmp_path: Path) -> None:
    """The others are interrupted where they go on."""
    file = tmp_path / "other"
    file.write_text("asleep")
    assert StepAnswer.model_validate_json(ended(DONE, f"sleep {file}").answer()) == StepAnswer()
    assert said(file) == "interrupted"


def test_one_that_is_lost_interrupts_the_one_that_leads(tmp_path: Path) -> None:
    team = ended(f"sleep {tmp_path / 'lead'}", "die")
    with pytest.raises(Unavailable) as caught:
        team.answer()
    assert caught.value.error_code == "node_lost"
    assert said(tmp_path / "lead") == "interrupted"


@pytest.mark.parametrize("lead", ["sleep", "lost"])
def test_one_that_fails_for_a_reason_of_its_own_ends_the_training_with_it(lead: str, tmp_path: Path) -> None:
    """Whether the one that leads has noticed or not. What another machine lacks at the moment is no such reason."""
    leads = f"sleep {tmp_path / 'lead'}" if lead == "sleep" else failing(Unavailable("gone", "h", code="member_lost"))
    fault = StepAnswer.model_validate_json(ended(leads, failing(Exhausted("no memory", "h", code="memory"))).answer()).fault
    assert fault is not None
    assert fault.code == "memory"
    with pytest.raises(Unavailable):
        ended(leads, failing(Unavailable("no record", "h", code="database_unreachable"))).answer()


def test_an_error_of_the_one_that_leads_is_its_own() -> None:
    text = ended(failing(Exhausted("the disk is full", "h", code="disk_full")), DONE).answer()
    assert StepAnswer.model_validate_json(text).fault == StepFault.of(Exhausted("the disk is full", "h", code="disk_full"))


def test_what_the_nodes_do_not_hold_at_once_is_refused() -> None:
    require_room_for_team(nodes(1, 1), "make lora", [NEED, NEED])
    require_room_for_team(nodes(2), "make lora", [NEED, NEED])
    with pytest.raises(Exhausted) as caught:
        require_room_for_team(nodes(1), "make lora", [NEED, NEED])
    assert caught.value.error_code == "step_too_large"
    with pytest.raises(Exhausted):
        require_room_for_team(nodes(8), "make lora", [StepNeed(cores=1, memory_gb=3.0)] * 2)
