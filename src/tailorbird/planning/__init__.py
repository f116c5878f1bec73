"""Planning: which rungs, in what order, with which settings, at what cost, and why; before anything is spent.

In: the objective, the shape of the data in tokens, the shape of each base model, this machine, prices. Out: a frozen plan, with every base
and rung left out and the reason. Must not know: how a rung works, data rows, torch.
"""

from tailorbird.planning.base_selection import BaseOffer, labels_of, make_ladder, probed, why_not_fetched
from tailorbird.planning.floor import why_not_encoder, why_words
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.ladder import make_plan
from tailorbird.planning.what_if_machine import MachineChange, changed

__all__ = [
    "BaseOffer",
    "MachineChange",
    "PlanInputs",
    "changed",
    "labels_of",
    "make_ladder",
    "make_plan",
    "probed",
    "why_not_encoder",
    "why_not_fetched",
    "why_words",
]
