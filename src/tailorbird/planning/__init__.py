"""Planning: which rungs, in what order, with which settings, at what cost, and why; before anything is spent.

    inputs → setting_rules · flops → memory · time_and_cost → rung_plans · hosted_model · floor → feasibility · totals → ladder
    → base_selection

In: the objective, token counts of the data, the shape of each base model, this machine, prices. Out: a frozen plan, with every base and
rung left out and the reason. Must not know: how a rung works, data rows, torch.
"""

from tailorbird.planning.floor import cut_texts, why_not_encoder, why_words
from tailorbird.planning.inputs import DOCUMENT_TOKENS, PlanInputs
from tailorbird.planning.ladder import BaseOffer, base_labels, make_ladder, make_plan, why_not_fetched

__all__ = [
    "DOCUMENT_TOKENS",
    "BaseOffer",
    "PlanInputs",
    "base_labels",
    "cut_texts",
    "make_ladder",
    "make_plan",
    "why_not_encoder",
    "why_not_fetched",
    "why_words",
]
