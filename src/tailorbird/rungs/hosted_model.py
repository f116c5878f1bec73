"""Hosted rung: the model of an endpoint behind an instruction, with or without demonstrations, behind a prompt that was searched, or with
passages that are looked up here.

Its labels are read from what it writes, so prompts are compared by the share of held-out rows that come out right.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from tailorbird.chat.prompts import messages_for, messages_for_row
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row
from tailorbird.domain.endpoint import HostedModel, is_version_of
from tailorbird.domain.errors import Exhausted, Internal, InvalidInput
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.rungs.context import AskHosted, RungContext, RungResult, as_passages, candidate_of, retrieval_of
from tailorbird.rungs.prompt import prompt_of, with_demonstrations
from tailorbird.rungs.prompt_search import AnswerJournal, SearchedPrompt, TrialAnswers, hosted_answers, origin_of, search_prompt


def make_hosted(context: RungContext) -> RungResult:
    """Zero-shot; few-shot where the plan has shots, searched where it has calls, and grounded where it says so.

    Raises what asking raises; InvalidInput (another model answers than was asked for; ``endpoint_model_changed``:
    than before a kill; ``endpoint_answer_refused``: none does); Exhausted (``search_money``: nothing is left for a search)."""
    started = time.perf_counter()
    wishes, endpoint, ask = context.objective.hosted, context.plan.endpoint, context.ask_hosted
    if wishes is None or endpoint is None or ask is None:
        raise Internal("the plan names no endpoint for the rung hosted", "please report this with the log", code="plan_incomplete")
    prompt = prompt_of(context)
    model = HostedModel(endpoint=endpoint.name, url=endpoint.url, model=wishes.model, reported="")
    journal = _journal(context, model) if context.plan.calls else None
    reported = _reported(prompt, ask, journal)
    # Returns where the server names the model that was asked for, a version of it, what the objective accepts, or nothing at
    # all. Raises InvalidInput.
    if reported in ("", wishes.reported) or is_version_of(reported, wishes.model):
        pass
    else:
        raise InvalidInput(
            f"the server answers as {reported}, and {wishes.model} was asked for",
            f"where that is the same model, write `reported: {reported}` beside `model`",
        )
    model = model.model_copy(update={"reported": reported})
    candidate = candidate_of(
        context,
        prompt,
        hosted=model,
    )
    search = None
    if context.plan.grounded:
        candidate = candidate.model_copy(update={"retrieval": retrieval_of(context, "passages", as_passages(context))})
    elif journal is not None:
        searched = _searched(context, model, ask, journal)
        candidate, search = candidate.model_copy(update={"prompt": searched.found.prompt}), searched.log
    elif context.plan.shots:
        candidate = candidate.model_copy(
            update={"prompt": with_demonstrations(context, prompt, partial(_held_out_score, hosted_answers(context, ask)))}
        )
    return RungResult(candidate, time.perf_counter() - started, search=search)


def _journal(context: RungContext, model: HostedModel) -> AnswerJournal:
    """Answers of a search that were paid before, and as whom the server gave them."""
    origin = origin_of(context, digest_of({"url": model.url, "model": model.model}))
    return AnswerJournal(context.workspace / "answers.jsonl", origin, context.seal_key)


def _reported(prompt: PromptSpec, ask: AskHosted, journal: AnswerJournal | None) -> str:
    """How the server names what answers; as before a kill, where a search has no money left to ask. Raises as ``reported_by``; Exhausted
    (``search_money``)."""
    try:
        # How the server names what answers. One that refuses to answer may name nothing, and is asked something else.
        for nothing in _NOTHING:
            answer = ask([messages_for(prompt, nothing)], Sampling(max_tokens=16))[0]
            if answer.model or not answer.refused:
                return answer.model
        raise InvalidInput(
            "the server would not answer the instruction, whatever stands behind it",
            "write the instruction in other words, or name another model",
            code="endpoint_answer_refused",
        )
    except Exhausted as error:
        if journal is None or error.error_code != "budget_spent":
            raise
        if (before := journal.get("reported")) is not None:
            return str(before)
        raise Exhausted(
            "the budget leaves nothing for the search: measuring what it finds is paid for first",
            "a larger budget in the objective is a new run",
            code="search_money",
        ) from error


def _searched(context: RungContext, model: HostedModel, ask: AskHosted, journal: AnswerJournal) -> SearchedPrompt:
    """The prompt that the search of the base's rung finds where ``model`` answers. Answers that were paid before a kill are not asked for
    again; another model does not go on with them."""
    if (before := journal.get("reported")) not in (None, model.reported):
        raise InvalidInput(
            f"the endpoint {model.endpoint} answers as {model.reported or 'nobody'}, and did as {before or 'nobody'}",
            "its model was changed under one name: name a version of it, and adapt again",
            code="endpoint_model_changed",
        )
    journal.put({"reported": model.reported})
    return search_prompt(context, hosted_answers(context, ask), journal, ends_early=True)


def _held_out_score(answering: TrialAnswers, prompt: PromptSpec, rows: Sequence[Row]) -> float:
    """The mean score of the rows."""
    found = dict[int, str]()
    with answering.asked_behind(prompt) as asked:
        asked([messages_for_row(prompt, row.text) for row in rows], found.__setitem__)
    return float(answering.scores(prompt, rows, [found[at] for at in range(len(rows))], None).mean())


#: Asked first, one until it is answered, without anything of the tenant's but the instruction: whether it answers, and as whom.
_NOTHING = ("N/A", "Hello.", "1")
