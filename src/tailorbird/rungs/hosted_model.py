"""Hosted rung: the model of an endpoint behind an instruction, with or without demonstrations, or with passages that are looked up here."""

from __future__ import annotations

import time

from tailorbird.chat.prompts import messages_for
from tailorbird.domain.endpoint import HostedModel, is_version_of
from tailorbird.domain.errors import Internal, InvalidInput
from tailorbird.domain.prompt import Sampling
from tailorbird.rungs.context import RungContext, RungResult, as_passages, candidate_of, retrieval_of
from tailorbird.rungs.prompt import draw_demonstrations, prompt_of

#: Asked first, one until it is answered, without anything of the tenant's but the instruction: whether it answers, and as whom.
_NOTHING = ("N/A", "Hello.", "1")


def make_hosted(context: RungContext) -> RungResult:
    """Zero-shot; few-shot where the plan has shots, and grounded where it says so.

    Raises what asking raises; InvalidInput (another model answers than was asked for; ``endpoint_answer_refused``: none does)."""
    started = time.perf_counter()
    wishes, endpoint, ask = context.objective.hosted, context.plan.endpoint, context.ask_hosted
    if wishes is None or endpoint is None or ask is None:
        raise Internal("the plan names no endpoint for the rung hosted", "please report this with the log", code="plan_incomplete")
    prompt = prompt_of(context)
    # One that refuses to answer may name nothing, and is asked something else.
    answers = (ask([messages_for(prompt, nothing)], Sampling(max_tokens=16))[0] for nothing in _NOTHING)
    reported = next((answer.model for answer in answers if answer.model or not answer.refused), None)
    if reported is None:
        raise InvalidInput(
            "the server would not answer the instruction, whatever stands behind it",
            "write the instruction in other words, or name another model",
            code="endpoint_answer_refused",
        )
    if reported not in ("", wishes.reported) and not is_version_of(reported, wishes.model):
        raise InvalidInput(
            f"the server answers as {reported}, and {wishes.model} was asked for",
            f"where that is the same model, write `reported: {reported}` beside `model`",
        )
    retrieval = retrieval_of(context, "passages", as_passages(context)) if context.plan.grounded else None
    if context.plan.shots and retrieval is None:
        shown = draw_demonstrations(context.shown, context.plan.shots, context.objective.seed)
        prompt = prompt.model_copy(update={"demonstrations": shown})
    hosted = HostedModel(endpoint=endpoint.name, url=endpoint.url, model=wishes.model, reported=reported)
    return RungResult(candidate_of(context, prompt, hosted=hosted, retrieval=retrieval), time.perf_counter() - started)
