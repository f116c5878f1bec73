"""Predictions of a loaded servable: answers to rows, and ranked documents for queries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tailorbird.domain.dataset import EVERYONE, Row
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import Prediction
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.domain.retrieval import Entry
from tailorbird.ports.engine import Engine, Generation, LabelScores
from tailorbird.text.conversations import last_user_turn
from tailorbird.text.label_decision import decide_label, without_priors
from tailorbird.text.prompt_rendering import messages_for_row


@dataclass(frozen=True)
class PredictionRequest:
    """What to predict. ``servable`` must be loaded; ``progress(done, total)`` is told after each chunk.

    The first ``timed`` rows are sent ``concurrency`` at a time, as a server would see them, and carry ``request_ms``; the rest go
    ``chunk`` at a time, because that is faster. 80 timed rows bound a 95th percentile at 95 % confidence.
    """

    engine: Engine
    servable: Servable
    rows: tuple[Row, ...]
    progress: Callable[[int, int], None]
    sampling: Sampling = field(default_factory=Sampling)
    timed: int = 80
    concurrency: int = 1
    chunk: int = 32


def engine_predictions(request: PredictionRequest) -> list[Prediction]:
    """Predicts every row: by label scores for classify, by generation for generate.

    Raises InvalidInput for a task that is neither, or without labels to choose
    from, and what the engine raises.
    """
    answer = _answerer(request)
    predictions: list[Prediction] = []
    for rows, timed in _chunks(request):
        predictions += answer(rows, timed)
        request.progress(len(predictions), len(request.rows))
    return predictions


Answerer = Callable[[Sequence[Row], bool], list[Prediction]]


def _answerer(request: PredictionRequest) -> Answerer:
    kind = request.servable.task
    if kind is TaskKind.CLASSIFY and request.servable.prompt.answers:
        return lambda rows, timed: _classify(request, rows, timed)
    if kind is TaskKind.GENERATE:
        return lambda rows, timed: _generate(request, rows, timed)
    raise InvalidInput(
        f"a {kind.value} task {'without labels ' if kind is TaskKind.CLASSIFY else ''}cannot be predicted",
        "predict a classify task whose prompt carries labels, or a generate task",
        code="task_unsupported",
    )


def _chunks(request: PredictionRequest) -> Iterator[tuple[Sequence[Row], bool]]:
    """Rows in order, with whether they are answered as single requests."""
    served, batched = request.rows[: request.timed], request.rows[request.timed :]
    for rows, size, timed in ((served, request.concurrency, True), (batched, request.chunk, False)):
        for start in range(0, len(rows), size):
            yield rows[start : start + size], timed


def _prompts(request: PredictionRequest, rows: Sequence[Row]) -> list[tuple[Message, ...]]:
    contexts = _looked_up(request, rows)
    return [messages_for_row(request.servable.prompt, row.text, context) for row, context in zip(rows, contexts, strict=True)]


def _looked_up(request: PredictionRequest, rows: Sequence[Row]) -> list[list[Entry]]:
    """What the servable looks up for each row, of what anybody may read; nothing where it looks nothing up."""
    local = request.servable.retrieval
    if local is None:
        return [[] for _ in rows]
    found = request.engine.retrieve(
        request.servable.id, [last_user_turn(row.text) for row in rows], frozenset({EVERYONE}), local.spec.count
    )
    return [[one.entry for one in each] for each in found]


def _classify(request: PredictionRequest, rows: Sequence[Row], timed: bool) -> list[Prediction]:
    prompt = request.servable.prompt
    started = time.perf_counter()
    scores = request.engine.score(request.servable.id, _prompts(request, rows), prompt.answers)
    share = _milliseconds_since(started) / len(rows)
    return [_chosen(row, prompt, score, share, timed) for row, score in zip(rows, scores, strict=True)]


def _chosen(row: Row, prompt: PromptSpec, score: LabelScores, share: float, timed: bool) -> Prediction:
    return Prediction(
        item=row.id,
        answer=decide_label(prompt, score.log_probabilities).answer,
        log_probabilities=None if prompt.alone else dict(zip(prompt.answers, without_priors(prompt, score.log_probabilities), strict=True)),
        latency_ms=share,
        request_ms=score.latency_ms if timed else None,
        prompt_tokens=score.prompt_tokens,
    )


def _generate(request: PredictionRequest, rows: Sequence[Row], timed: bool) -> list[Prediction]:
    started = time.perf_counter()
    answers = request.engine.generate(request.servable.id, _prompts(request, rows), request.sampling)
    share = _milliseconds_since(started) / len(rows)
    return [_answered(row, answer, share, timed) for row, answer in zip(rows, answers, strict=True)]


def _answered(row: Row, answer: Generation, share: float, timed: bool) -> Prediction:
    return Prediction(
        item=row.id,
        answer=answer.text,
        latency_ms=share,
        request_ms=answer.latency_ms if timed else None,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
    )


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


#: Documents of an answer that are looked at.
MOST = 100


def ranked_predictions(request: PredictionRequest) -> list[Prediction]:
    """Ranks every row's documents, of those that anybody may read. The first rows are asked
    ``concurrency`` at a time, and carry ``request_ms``: none has its answer before all have theirs."""
    predictions: list[Prediction] = []
    served, batched = request.rows[: request.timed], request.rows[request.timed :]
    for rows, size, timed in ((served, request.concurrency, True), (batched, request.chunk, False)):
        for start in range(0, len(rows), size):
            predictions += _ranked(request, rows[start : start + size], timed)
            request.progress(len(predictions), len(request.rows))
    return predictions


def _ranked(request: PredictionRequest, rows: Sequence[Row], timed: bool) -> list[Prediction]:
    started = time.perf_counter()
    found = request.engine.retrieve(request.servable.id, [row.text for row in rows], frozenset({EVERYONE}), MOST)
    elapsed = (time.perf_counter() - started) * 1000
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
