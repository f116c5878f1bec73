"""What a rung will take, each as an interval: memory, time, FLOPs, money, energy, and what serving it will cost.

In: ``PlanInputs`` and a rung's settings. Out: ``Estimate`` values. Must not know: budgets, the order of rungs.
"""

from tailorbird.planning.estimates.baseline import floor_memory, floor_request, floor_time, vectors_time
from tailorbird.planning.estimates.flops import training_flops
from tailorbird.planning.estimates.memory import grown_memory, prompt_memory, training_memory
from tailorbird.planning.estimates.time_and_cost import (
    energy_estimate,
    loop_time,
    money_estimate,
    prompt_time,
    scoring_seconds,
    serving_estimate,
    training_time,
)

__all__ = [
    "energy_estimate",
    "floor_memory",
    "floor_request",
    "floor_time",
    "grown_memory",
    "loop_time",
    "money_estimate",
    "prompt_memory",
    "prompt_time",
    "scoring_seconds",
    "serving_estimate",
    "training_flops",
    "training_memory",
    "training_time",
    "vectors_time",
]
