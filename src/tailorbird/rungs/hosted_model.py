"""Hosted rung: the model of an endpoint behind an instruction, with or without demonstrations.

Its labels are read from what it writes, so sets of demonstrations are compared by the share of held-out rows that come out right.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean

from tailorbird.domain.dataset import Row
from tailorbird.domain.endpoint import HostedModel, is_version_of
from tailorbird.domain.errors import Internal, InvalidInput
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.domain.rung_wishes import EndpointWishes
from tailorbird.rungs.context import AskHosted, RungContext, RungResult, hold_out
from tailorbird.rungs.prompt import DRAWS, SCORED, draw_demonstrations
from tailorbird.text.answered_labels import answered_label
from tailorbird.text.conversations import as_line, shown_answer
from tailorbird.text.prompt_rendering import messages_for, messages_for_row
from tailorbird.text.text_metrics import token_f1

#: Asked first, one until it is answered, without anything of the tenant's but the instruction: whether it answers, and as whom.
_NOTHING = ("N/A", "Hello.", "1")


def make_hosted(context: RungContext) -> RungResult:
    """Zero-shot, or few-shot where the plan has shots. Raises what asking raises; InvalidInput (``endpoint_model_other``: another model
    answers than was asked for; ``endpoint_answer_refused``: none does)."""
    started = time.perf_counter()
    wishes, endpoint, ask = context.objective.hosted, context.plan.endpoint, context.ask_hosted
    if wishes is None or endpoint is None or ask is None:
        raise Internal("the plan names no endpoint for the rung hosted", "please report this with the log", code="plan_incomplete")
    prompt = PromptSpec(
        instruction=context.objective.task.instruction,
        labels=context.labels,
        label_sets=context.label_sets,
        list_labels=context.objective.task.kind is TaskKind.CLASSIFY,
    )
    reported = _reported(prompt, ask)
    demand_asked(wishes, reported)
    if context.plan.shots:
        prompt = _with_demonstrations(context, prompt, ask)
    candidate = Candidate(
        rung=RungKind.HOSTED,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=prompt,
        seed=context.objective.seed,
        hosted=HostedModel(endpoint=endpoint.name, url=endpoint.url, model=wishes.model, reported=reported),
    )
    return RungResult(candidate, time.perf_counter() - started)


def _reported(prompt: PromptSpec, ask: AskHosted) -> str:
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


def _with_demonstrations(context: RungContext, prompt: PromptSpec, ask: AskHosted) -> PromptSpec:
    """The best of a few drawn sets; of sets that score alike, the first."""
    shown_from, held_out = hold_out(context.shown, context.objective.seed)
    judged_on = held_out[:SCORED]
    best, best_score = prompt, float("-inf")
    for draw in range(DRAWS):
        shown = draw_demonstrations(shown_from, context.plan.shots, context.objective.seed + draw)
        tried = prompt.model_copy(update={"demonstrations": shown})
        score = _held_out_score(context, tried, judged_on, ask)
        context.progress(f"demonstrations, set {draw + 1} of {DRAWS}: {score:.3f} on {len(judged_on)} held-out training rows")
        if score > best_score:
            best, best_score = tried, score
    return best


def _held_out_score(context: RungContext, prompt: PromptSpec, rows: Sequence[Row], ask: AskHosted) -> float:
    """The share of rows that come out right (classify), or the mean overlap with their answers (generate)."""
    answers = ask([messages_for_row(prompt, row.text) for row in rows], Sampling())
    texts = ["" if answer.refused else answer.text for answer in answers]
    if context.objective.task.kind is TaskKind.CLASSIFY:
        return fmean(answered_label(prompt, text) == row.answer for row, text in zip(rows, texts, strict=True))
    said = [as_line(Message(role="assistant", content=text)) for text in texts]
    return fmean(token_f1(text, shown_answer(row.answer)) for row, text in zip(rows, said, strict=True))
