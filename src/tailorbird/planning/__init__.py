"""Planning: which rungs, in what order, with which settings, at what cost, and why; before anything is spent.

In: the objective, the shape of the data in tokens, the base model's shape, this machine, prices. Out: a frozen plan, with every rung left
out and the reason. Must not know: how a rung works, data rows, torch.
"""

from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.ladder import make_plan
from tailorbird.planning.machines import Change, changed

__all__ = ["Change", "PlanInputs", "changed", "make_plan"]
