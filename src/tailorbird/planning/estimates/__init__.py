"""What a rung will take, each as an interval: memory, time, FLOPs, money, energy, and what serving it will cost.

In: ``PlanInputs`` and a rung's settings. Out: ``Estimate`` values. Must not know: budgets, the order of rungs.
"""

from tailorbird.planning.estimates.cost import energy_estimate, money_estimate, serving_estimate
from tailorbird.planning.estimates.floor import floor_memory, floor_request, floor_time, vectors_time
from tailorbird.planning.estimates.memory import grown_memory, prompt_memory, training_memory
from tailorbird.planning.estimates.scoring import prompt_time, scoring_seconds
from tailorbird.planning.estimates.time import loop_time, training_time
from tailorbird.planning.estimates.work import training_flops

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
