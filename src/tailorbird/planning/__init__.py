"""Planning: which rungs, in what order, with which settings, at what cost, and why; before anything is spent.

    inputs → setting_rules · flops → memory · time_and_cost → rung_plans · hosted_model · floor → feasibility · totals → ladder
    → base_selection
    request_trace → adapter_cache → replica_simulation → engine_fit · capacity: what replicas of an engine do with given traffic

In: the objective, token counts of the data, the shape of each base model, this machine, prices. Out: a frozen plan, with every base and
rung left out and the reason. Must not know: how a rung works, data rows, torch.
"""

from tailorbird.planning.base_selection import BaseOffer, base_labels, bases_to_probe, make_ladder, why_not_fetched
from tailorbird.planning.capacity import capacity_plan
from tailorbird.planning.engine_fit import adapter_mebibytes, fit_timings
from tailorbird.planning.feasibility import MachineChange, with_machine_change
from tailorbird.planning.floor import cut_texts, why_not_encoder, why_words
from tailorbird.planning.inputs import DOCUMENT_TOKENS, PlanInputs
from tailorbird.planning.ladder import make_plan
from tailorbird.planning.model_fit import FitQuestion, asked_length, fit_of

__all__ = [
    "DOCUMENT_TOKENS",
    "BaseOffer",
    "FitQuestion",
    "MachineChange",
    "PlanInputs",
    "adapter_mebibytes",
    "asked_length",
    "base_labels",
    "bases_to_probe",
    "capacity_plan",
    "cut_texts",
    "fit_of",
    "fit_timings",
    "make_ladder",
    "make_plan",
    "why_not_encoder",
    "why_not_fetched",
    "why_words",
    "with_machine_change",
]
