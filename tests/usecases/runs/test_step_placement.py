"""What a step takes of a node, by the plan, and which nodes hold it."""

from __future__ import annotations

import pytest

from support.reporting import plan as reported_plan
from support.rungs import make_plan_of, make_settings
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.plan import Estimate, Machine, Plan, RungPlan
from tailorbird.domain.run import ComputeNode, StepNeed
from tailorbird.usecases.runs.placement import need_of, require_room

SMALL = ComputeNode(host="small", cores=2, memory_gb=4.0)
LARGE = ComputeNode(host="large", cores=8, memory_gb=64.0, gpus=2)
NODES = (SMALL, LARGE)


def rung(kind: str, memory: float, *, trains: bool) -> RungPlan:
    taken = Estimate(low=memory, likely=memory, high=2 * memory, unit="GiB")
    return make_plan_of(kind, "v", training=make_settings(kind) if trains else None).model_copy(update={"memory": taken})


def plan(**machine: object) -> Plan:
    has = Machine.model_validate({"cores": 8, "memory_gb": 60.0, "threads": 4} | machine)
    return reported_plan().model_copy(update={"machine": has, "rungs": (rung("prompt", 1.5, trains=False), rung("lora", 5.0, trains=True))})


@pytest.mark.parametrize(
    ("name", "cores", "need"),
    [
        ("snapshot", 0, StepNeed(cores=8, memory_gb=0.5)),
        ("plan", 0, StepNeed(cores=8, memory_gb=0.5, gpus=2)),
    ],
)
def test_before_the_plan_a_step_takes_what_the_settings_say(name: str, cores: int, need: StepNeed) -> None:
    assert need_of(None, name, NODES, cores) == need


@pytest.mark.parametrize(
    ("name", "done", "need"),
    [
        ("floor", (), StepNeed(cores=4, memory_gb=0.5)),
        ("make prompt v", (), StepNeed(cores=4, memory_gb=1.5)),
        ("make lora v", (), StepNeed(cores=4, memory_gb=5.0)),
        ("choose 2", ("measure prompt v",), StepNeed(cores=4, memory_gb=1.5)),
        ("test 2", ("measure prompt v", "measure lora v"), StepNeed(cores=4, memory_gb=5.0)),
    ],
)
def test_afterwards_it_takes_the_threads_and_the_memory_of_the_plan(name: str, done: tuple[str, ...], need: StepNeed) -> None:
    """However many cores the settings name by now: other threads would be another result."""
    assert need_of(plan(), name, NODES, 3, done) == need


@pytest.mark.parametrize(
    ("name", "gpus"), [("make prompt v", 1), ("make lora v", 2), ("measure lora v", 1), ("choose", 0), ("choose 2", 0), ("test", 1)]
)
def test_training_takes_all_gpus_of_the_plan_and_asking_one(name: str, gpus: int) -> None:
    need = need_of(plan(gpus=("H100", "H100"), threads=0), name, NODES, 0)
    assert (need.gpus, need.cores) == (gpus, 8)


@pytest.mark.parametrize(
    ("need", "told"),
    [
        (StepNeed(cores=9), "takes 9 cores, and no node has that: the largest has 8 cores, 64.0 GiB, 2 GPUs"),
        (StepNeed(cores=1, memory_gb=64.5), "takes 1 core, 64.5 GiB, and"),
        (StepNeed(cores=1, gpus=3), "takes 1 core, 3 GPUs, and"),
    ],
)
def test_a_step_that_none_holds_is_refused(need: StepNeed, told: str) -> None:
    with pytest.raises(Exhausted, match="make lora v") as caught:
        require_room(NODES, "make lora v", need)
    assert told in caught.value.message
    assert caught.value.error_code == "step_too_large"
