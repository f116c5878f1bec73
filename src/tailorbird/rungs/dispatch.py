"""Dispatch table from rung kind to the function that makes its candidate."""

from __future__ import annotations

from collections.abc import Callable

from tailorbird.domain.errors import Internal
from tailorbird.domain.ladder import RungKind
from tailorbird.rungs.context import RungContext, RungResult
from tailorbird.rungs.encoder import make_encoder
from tailorbird.rungs.hosted_model import make_hosted
from tailorbird.rungs.prompt import make_grounding, make_nearest, make_prompt
from tailorbird.rungs.prompt_search import make_prompt_search
from tailorbird.rungs.training import make_ranker, make_search, make_trained

#: What makes a rung's candidate. A new rung is a file and a line here.
MAKERS: dict[RungKind, Callable[[RungContext], RungResult]] = {
    RungKind.ENCODER: make_encoder,
    RungKind.PROMPT: make_prompt,
    RungKind.NEAREST: make_nearest,
    RungKind.GROUNDING: make_grounding,
    RungKind.HOSTED: make_hosted,
    RungKind.PROMPT_SEARCH: make_prompt_search,
    RungKind.LORA: make_trained,
    RungKind.QLORA: make_trained,
    RungKind.GROUNDED_LORA: make_trained,
    RungKind.FULL: make_trained,
    RungKind.SEARCH: make_search,
    RungKind.BI_ENCODER: make_ranker,
    RungKind.CROSS_ENCODER: make_ranker,
}


def make_candidate(context: RungContext) -> RungResult:
    """Makes the candidate of the planned rung. Raises Internal for a rung that one does not climb, and what the rung raises."""
    kind = context.plan.rung
    if kind not in MAKERS:
        raise Internal(f"{kind.value} is not a rung one climbs", "fit the floor with fit_floor")
    return MAKERS[kind](context)
