"""Predictions of a loaded servable: answers to rows, and ranked documents for queries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tailorbird.chat.conversations import fold_answer, last_user_turn
from tailorbird.chat.prompts import messages_for_row
from tailorbird.domain.dataset import EVERYONE, Row
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Message, PromptSpec, Sampling
from tailorbird.ports.engine import Engine, Generation, LabelScores
from tailorbird.text.label_rules import answered_label, decide_label, scope_scores, without_priors

#: Rows that are asked as single requests, and rows at a time of those after them. 80 timed rows bound a 95th percentile at 95 % confidence.
TIMED, CHUNK = 80, 32


@dataclass(frozen=True)
class PredictionRequest:
    """What to predict. ``servable`` must be loaded; ``progress(done, total)`` is told after each chunk.

    The first ``timed`` rows are sent ``concurrency`` at a time, as a server would see them, and carry ``request_ms``; the rest go
    ``chunk`` at a time, because that is faster.
    """

    engine: Engine
    servable: Servable
    rows: tuple[Row, ...]
    progress: Callable[[int, int], None]
    sampling: Sampling = field(default_factory=Sampling)
    timed: int = TIMED
    concurrency: int = 1
    chunk: int = CHUNK


def engine_predictions(request: PredictionRequest) -> list[Prediction]:
    """Predicts every row: by label scores for classify, by generation for generate; for rank, the documents that anybody may read.

    Raises InvalidInput for a classify task without labels to choose from, and what the engine raises.
    """
    servable = request.servable
    if servable.task is TaskKind.CLASSIFY:
        answer = _named if servable.hosted is not None else _classify
    else:
        answer = _generate if servable.task is TaskKind.GENERATE else _ranked
    if answer is _classify and not servable.prompt.answers:
        raise InvalidInput(
            "a classify task without labels cannot be predicted",
            "predict a classify task whose prompt carries labels, or a generate task",
        )
    predictions: list[Prediction] = []
    for rows, timed in _chunks(request):
        predictions += answer(request, rows, timed)
        request.progress(len(predictions), len(request.rows))
    return predictions


def _chunks(request: PredictionRequest) -> Iterator[tuple[Sequence[Row], bool]]:
    """Rows in order, with whether they are answered as single requests."""
    served = request.rows[: request.timed]
    for start in range(0, len(served), request.concurrency):
        yield served[start : start + request.concurrency], True
    for start in range(len(served), len(request.rows), request.chunk):
        yield request.rows[start : start + request.chunk], False


class _RowLookup(NamedTuple):
    """A row, what was looked up for it (nothing where the servable looks nothing up), and the milliseconds of looking up: of those asked at
    once, none has its entries before all have theirs."""

    row: Row
    found: Sequence[Entry] = ()
    lookup_ms: float = 0.0


def _asked(request: PredictionRequest, rows: Sequence[Row]) -> list[_RowLookup]:
    """Rows with what the servable looks up for each, of what anybody may read."""
    local = request.servable.retrieval
    if local is None:
        return [_RowLookup(row) for row in rows]
    queries = [last_user_turn(row.text) for row in rows]
    started = time.perf_counter()
    found = request.engine.retrieve(request.servable.id, queries, frozenset({EVERYONE}), local.spec.count)
    took = _milliseconds_since(started)
    return [_RowLookup(row, [one.entry for one in each], took) for row, each in zip(rows, found, strict=True)]


def _prompts(request: PredictionRequest, asked: Sequence[_RowLookup]) -> list[tuple[Message, ...]]:
    return [messages_for_row(request.servable.prompt, one.row.text, one.found) for one in asked]


def _classify(request: PredictionRequest, rows: Sequence[Row], timed: bool) -> list[Prediction]:
    prompt = request.servable.prompt
    started = time.perf_counter()
    asked = _asked(request, rows)
    scores = request.engine.score(request.servable.id, _prompts(request, asked), prompt.answers)
    share = _milliseconds_since(started) / len(rows)
    return [_chosen(one, prompt, score, share, timed) for one, score in zip(asked, scores, strict=True)]


def _chosen(asked: _RowLookup, prompt: PromptSpec, score: LabelScores, share: float, timed: bool) -> Prediction:
    return Prediction(
        item=asked.row.id,
        answer=decide_label(prompt, score.log_probabilities).answer,
        log_probabilities=None if prompt.alone else dict(zip(prompt.answers, without_priors(prompt, score.log_probabilities), strict=True)),
        latency_ms=share,
        request_ms=asked.lookup_ms + score.latency_ms if timed else None,
        prompt_tokens=score.prompt_tokens,
        scope={} if prompt.alone or prompt.label_sets else scope_scores(prompt, score),
    )


def _named(request: PredictionRequest, rows: Sequence[Row], timed: bool) -> list[Prediction]:
    """Labels as a hosted model writes them; it gives no probabilities. Where it names none of them, or several, the answer is empty."""
    prompt = request.servable.prompt
    answers = _generate(request, rows, timed)
    return [answer.model_copy(update={"answer": answered_label(prompt, answer.answer)}) for answer in answers]


def _generate(request: PredictionRequest, rows: Sequence[Row], timed: bool) -> list[Prediction]:
    started = time.perf_counter()
    asked = _asked(request, rows)
    answers = request.engine.generate(request.servable.id, _prompts(request, asked), request.sampling)
    share = _milliseconds_since(started) / len(rows)
    return [_answered(one, answer, share, timed) for one, answer in zip(asked, answers, strict=True)]


def _answered(asked: _RowLookup, answer: Generation, share: float, timed: bool) -> Prediction:
    """A request takes the look-up and the answer."""
    return Prediction(
        item=asked.row.id,
        answer=fold_answer(Message(role="assistant", content=answer.text, tool_calls=answer.tool_calls)),
        passages=tuple(f"{entry.title} {entry.text}".strip() for entry in asked.found if not entry.target),
        latency_ms=share,
        request_ms=asked.lookup_ms + answer.latency_ms if timed else None,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
    )


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


#: Documents of an answer that are looked at.
MOST = 100


def _ranked(request: PredictionRequest, rows: Sequence[Row], timed: bool) -> list[Prediction]:
    """None of those that are asked at once has its answer before all have theirs."""
    started = time.perf_counter()
    found = request.engine.retrieve(request.servable.id, [row.text for row in rows], frozenset({EVERYONE}), MOST)
    elapsed = _milliseconds_since(started)
    rankings = [tuple(one.entry.id for one in each) for each in found]
    return [
        Prediction(
            item=row.id,
            answer=ranking[0] if ranking else "",
            ranking=ranking,
            latency_ms=elapsed / len(rows),
            request_ms=elapsed if timed else None,
        )
        for row, ranking in zip(rows, rankings, strict=True)
    ]
