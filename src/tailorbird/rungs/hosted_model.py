"""Hosted rung: the model of an endpoint behind an instruction, with or without demonstrations, behind a prompt that was searched, or with
passages that are looked up here.

Its labels are read from what it writes, so prompts are compared by the share of held-out rows that come out right.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.errors import Exhausted, Internal, InvalidInput
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.rungs.answer_journal import AnswerJournal
from tailorbird.rungs.context import AskHosted, RungContext, RungResult, hold_out
from tailorbird.rungs.hosted_server import demand_asked, reported_by
from tailorbird.rungs.indexes import as_passages, retrieval_of
from tailorbird.rungs.prompt import DRAWS, SCORED, draw_demonstrations, prompt_of
from tailorbird.rungs.prompt_search import SearchedPrompt, origin_of, search_prompt
from tailorbird.rungs.trial_answers import hosted_answers
from tailorbird.text.conversations import as_line, shown_answer
from tailorbird.text.label_rules import answered_label
from tailorbird.text.prompt_rendering import messages_for_row
from tailorbird.text.text_metrics import token_f1


def make_hosted(context: RungContext) -> RungResult:
    """Zero-shot; few-shot where the plan has shots, searched where it has calls, and grounded where it says so.

    Raises what asking raises; InvalidInput (``endpoint_model_other``: another model answers than was asked for; ``endpoint_model_changed``:
    than before a kill; ``endpoint_answer_refused``: none does); Exhausted (``search_money``: nothing is left for a search)."""
    started = time.perf_counter()
    wishes, endpoint, ask = context.objective.hosted, context.plan.endpoint, context.ask_hosted
    if wishes is None or endpoint is None or ask is None:
        raise Internal("the plan names no endpoint for the rung hosted", "please report this with the log", code="plan_incomplete")
    prompt = prompt_of(context)
    model = HostedModel(endpoint=endpoint.name, url=endpoint.url, model=wishes.model, reported="")
    journal = _journal(context, model) if context.plan.calls else None
    reported = _reported(prompt, ask, journal)
    demand_asked(wishes, reported)
    model = model.model_copy(update={"reported": reported})
    candidate = Candidate(
        rung=RungKind.HOSTED,
        variant=context.plan.variant,
        base_model=context.base.digest,
        prompt=prompt,
        seed=context.objective.seed,
        hosted=model,
    )
    search = None
    if context.plan.grounded:
        candidate = candidate.model_copy(update={"retrieval": retrieval_of(context, "passages", as_passages(context))})
    elif journal is not None:
        searched = _searched(context, model, ask, journal)
        update = {"prompt": searched.found.prompt, "proposed_from": searched.proposed_from, "proposer": searched.proposer}
        candidate, search = candidate.model_copy(update=update), searched.log
    elif context.plan.shots:
        candidate = candidate.model_copy(update={"prompt": _with_demonstrations(context, prompt, ask)})
    return RungResult(candidate, time.perf_counter() - started, search=search)


def _journal(context: RungContext, model: HostedModel) -> AnswerJournal:
    """Answers of a search that were paid before, and as whom the server gave them."""
    origin = origin_of(context, digest_of({"url": model.url, "model": model.model}))
    return AnswerJournal(context.workspace / "answers.jsonl", origin, context.seal_key)


def _reported(prompt: PromptSpec, ask: AskHosted, journal: AnswerJournal | None) -> str:
    """How the server names what answers; as before a kill, where a search has no money left to ask. Raises as ``reported_by``; Exhausted
    (``search_money``)."""
    try:
        return reported_by(prompt, ask)
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
