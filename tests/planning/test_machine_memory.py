"""Memory of a rung against that of the machine: what is left out, and what is computed in smaller passes."""

from __future__ import annotations

from support.planning import LARGE, MACHINE, TOKENS, inputs, objective
from tailorbird.domain.ladder import RungKind
from tailorbird.planning import make_plan


def test_a_plan_for_a_small_gpu_takes_smaller_passes() -> None:
    long = TOKENS.model_copy(update={"prompt_mean": 900.0, "prompt_p95": 1000, "prompt_max": 1000})
    rich = objective(budget={"hours": 1e6, "money": 1e6})
    there = inputs(base=LARGE, tokens=long, objective=rich, machine=MACHINE.model_copy(update={"gpus": ("L40S",), "memory_gb": 44.0}))
    lora = next(rung for rung in make_plan(there).rungs if rung.rung is RungKind.LORA)
    assert lora.training.token_budget < 8192
    assert any("the memory holds no more" in reason.text for reason in lora.reasons)
