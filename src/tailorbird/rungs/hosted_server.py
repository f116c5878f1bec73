"""Who answers at an endpoint: how its server names the model, and whether that is the one that was asked for."""

from __future__ import annotations

from tailorbird.domain.endpoint import is_version_of
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.domain.rung_wishes import EndpointWishes
from tailorbird.rungs.context import AskHosted
from tailorbird.text.prompt_rendering import messages_for

#: Asked first, one until it is answered, without anything of the tenant's but the instruction: whether it answers, and as whom.
_NOTHING = ("N/A", "Hello.", "1")


def reported_by(prompt: PromptSpec, ask: AskHosted) -> str:
    """How the server names what answers. One that refuses to answer may name nothing, and is asked something else."""
    for nothing in _NOTHING:
        answer = ask([messages_for(prompt, nothing)], Sampling(max_tokens=16))[0]
        if answer.model or not answer.refused:
            return answer.model
    raise InvalidInput(
        "the server would not answer the instruction, whatever stands behind it",
        "write the instruction in other words, or name another model",
        code="endpoint_answer_refused",
    )


def demand_asked(wishes: EndpointWishes, reported: str) -> None:
    """Returns where the server names the model that was asked for, a version of it, what the objective accepts, or nothing at all. Raises
    InvalidInput (``endpoint_model_other``)."""
    if reported in ("", wishes.reported) or is_version_of(reported, wishes.model):
        return
    raise InvalidInput(
        f"the server answers as {reported}, and {wishes.model} was asked for",
        f"where that is the same model, write `reported: {reported}` beside `model`",
        code="endpoint_model_other",
    )
