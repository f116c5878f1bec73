"""Metrics of generated text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tailorbird.domain.evidence import ItemResult, Metric
from tailorbird.domain.objective import AnswerFormat
from tailorbird.evaluation.measure_spec import MeasureSpec, proportion, share_like
from tailorbird.text.conversations import answer_turn, holds_tools, shown_answer
from tailorbird.text.json_answers import field_score, json_object, same_objects
from tailorbird.text.normalisation import normalise, normalise_answer
from tailorbird.text.regex import matches, occurs
from tailorbird.text.text_metrics import chrf, rouge_l, token_f1, word_precision
from tailorbird.text.tool_calls import same_calls

#: Scores of an item that are shares of something, in the order in which they are told.
_MEANS = ("token_f1", "rouge_l", "chrf", "field_score", "groundedness")
#: Scores of an item that are yes or no.
_SHARES = ("format_valid", "refusal_rate", "coverage", "referral_recall", "referral_precision", "tool_call_accuracy")

#: How assistants open an answer in which they decline. Matched at its beginning alone: who quotes such words later has not declined.
_REFUSAL = re.compile(
    r"^\W*("
    r"(i['’]?m (very |so |really )?)?sorry|i apologi[sz]e|unfortunately,? i|i must decline"
    r"|i (really )?(cannot|can['’]t|can not|won['’]t|will not|am unable|am not able|do not have|don['’]t have)"
    r"|i['’]m (unable|not able)|as an? (ai|artificial|language)|no,? i (cannot|can['’]t|won['’]t)"
    r"|this (request|question) (cannot|can['’]t)|it is not (possible|appropriate) for me|it would not be appropriate)"
)


def generation_scores(answer: str, reference: str, spec: MeasureSpec, passages: Sequence[str]) -> dict[str, float]:
    """One item's scores by name. ``format_valid`` only where a form is asked for, ``field_score`` only where that is JSON objects and the
    reference is one, ``groundedness`` only where passages were given,
    ``coverage`` only where answers may refer to people: ``referral_recall`` then of an item whose reference does, ``referral_precision`` of
    one whose answer does.

    Groundedness is the share of the answer's words that stand in the passages (K-precision, Adlakha 2023, arXiv 2307.16877).
    """
    answer, reference = shown_answer(answer), shown_answer(reference)
    scores = {
        "token_f1": token_f1(answer, reference),
        "rouge_l": rouge_l(answer, reference),
        "chrf": chrf(answer, reference),
        "refusal_rate": float(is_refusal(answer)),
    }
    if spec.form is not None:
        scores["format_valid"] = float(has_form(answer, spec.form))
        if spec.form.json_keys is not None and (said := field_score(answer, reference)) is not None:
            scores["field_score"] = said
    if spec.refer_pattern is not None:
        due, done = occurs(spec.refer_pattern, reference), occurs(spec.refer_pattern, answer)
        scores |= {"coverage": float(not done)}
        scores |= ({"referral_recall": float(done)} if due else {}) | ({"referral_precision": float(due)} if done else {})
    if passages:
        scores["groundedness"] = word_precision(answer, " ".join(passages))
    return scores


def tool_call_scores(answer: str, reference: str, text: str) -> dict[str, float]:
    """``tool_call_accuracy`` of an item whose conversation offers functions: the calls of the answer are those of the reference, in name
    and arguments (what BFCL scores as AST accuracy); where the reference calls nothing, neither does the answer (BFCL's irrelevance)."""
    due, made = answer_turn(reference).tool_calls, answer_turn(answer).tool_calls
    return {"tool_call_accuracy": float(same_calls(made, due))} if due or holds_tools(text) else {}


def is_same_answer(answer: str, reference: str, form: AnswerFormat | None = None) -> bool:
    """The same words, after ``normalise_answer``; where one of both calls functions, the same calls, and where ``form`` asks for JSON
    objects, the same object: how JSON is spaced, and in which order its keys stand, does not count."""
    made, due = answer_turn(answer).tool_calls, answer_turn(reference).tool_calls
    if made or due:
        return same_calls(made, due)
    same = same_objects(answer, reference) if form is not None and form.json_keys is not None else None
    return normalise_answer(answer) == normalise_answer(reference) if same is None else same


def generation_metrics(items: Sequence[ItemResult], spec: MeasureSpec) -> Iterator[Metric]:
    """All metrics of generated answers. ``exact_match`` compares after ``normalise_answer`` (case, white space and Unicode forms do not
    count), calls of functions as ``tool_call_accuracy``, and JSON objects by what they say where the objective asks for such."""
    yield proportion("exact_match", items, [item.correct for item in items], spec)
    for name in _MEANS:
        scored = [item for item in items if name in item.scores]
        if scored:
            yield share_like(name, [item.scores[name] for item in scored], [item.group for item in scored], spec)
    for name in _SHARES:
        scored = [item for item in items if name in item.scores]
        if scored:
            yield proportion(name, scored, [item.scores[name] > 0 for item in scored], spec)


def is_refusal(answer: str) -> bool:
    """True when the answer opens by declining. A rule over words: it sees English refusals of the usual kind, and no others."""
    return bool(_REFUSAL.match(normalise(answer)))


def has_form(answer: str, form: AnswerFormat) -> bool:
    """True when the whole answer has the form that is asked for; outer white space does not count."""
    text = answer.strip()
    if form.pattern is not None and not matches(form.pattern, text):
        return False
    if form.json_keys is None:
        return True
    found = json_object(text)
    return found is not None and all(key in found for key in form.json_keys)
