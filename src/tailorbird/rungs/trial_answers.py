"""Answers to trials of a prompt, and what each scores: of the base model, label scores or text; of a hosted model, what it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.rungs.context import AskHosted, RungContext
from tailorbird.rungs.label_thresholds import trial_servable
from tailorbird.text.conversations import as_line, shown_answer
from tailorbird.text.json_answers import field_score, same_objects
from tailorbird.text.label_rules import answered_label, decide_label, without_priors
from tailorbird.text.normalisation import normalise
from tailorbird.text.text_metrics import chrf, rouge_l, token_f1

Floats = NDArray[np.float64]
#: Is told the place of each prompt and its answer, a JSON value, as they come: where one fails, those that are paid for were told.
KeepTrial = Callable[[int, Any], None]
AnswerPrompts = Callable[[Sequence[Sequence[Message]], KeepTrial], None]

#: Rows asked for at a time, and lost at most by a kill: of this machine, and of a hosted model, where each is paid for.
BATCH, HOSTED_BATCH = 16, 4
#: Tokens of an answer, at most: as many as where a candidate is measured.
_MOST_TOKENS = 256
#: Errors of a hosted model that are of the prompt, and not of the model.
_UNREAD = frozenset({"prompt_too_long", "endpoint_request"})


class TrialAnswers(Protocol):
    """Answers of one model to rows behind prompts, asked ``batch`` at a time, and their score in ``metric``. ``probable``: they are
    log-probabilities of ``prompt.answers`` (nats); else what was written."""

    metric: str
    batch: int
    probable: bool

    def asked_behind(self, prompt: PromptSpec) -> AbstractContextManager[AnswerPrompts]:
        """What answers behind ``prompt``. Raises what the model raises."""

    def is_unread(self, error: InvalidInput) -> bool:
        """True where the model does not read a prompt, or a row behind it; False where something else is wrong."""

    def scores(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any], priors: tuple[float, ...] | None) -> Floats:
        """The score in [0, 1] of each row. ``priors`` are taken off probabilities; None: what the prompt makes the model prefer on these
        rows."""

    def mistakes(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any]) -> list[tuple[Row, str]]:
        """Rows whose answer comes out wrong, or overlaps with theirs by less than most, the worst first, each with what was answered."""


def base_answers(context: RungContext) -> TrialAnswers:
    """Those of the base model: probabilities of labels (classify), or text (generate)."""
    return LabelProbabilities(context) if context.objective.task.kind is TaskKind.CLASSIFY else GeneratedTexts(context)


def hosted_answers(context: RungContext, ask: AskHosted) -> TrialAnswers:
    """Those of the hosted model that ``ask`` asks: the labels that it names (classify), or text (generate)."""
    return NamedLabels(ask) if context.objective.task.kind is TaskKind.CLASSIFY else HostedTexts(context, ask)


class _OfTheBase:
    """What is asked of the base model."""

    batch = BATCH

    def is_unread(self, error: InvalidInput) -> bool:
        """Whatever the engine says of an input is of the prompt."""
        del error
        return True


class _OfAServer:
    """What is asked of a hosted model."""

    batch = HOSTED_BATCH

    def is_unread(self, error: InvalidInput) -> bool:
        """What the server says of a request."""
        return error.error_code in _UNREAD


class LabelProbabilities(_OfTheBase):
    """Implements ``TrialAnswers`` by the probability of the right labels, less what the prompt makes the model prefer."""

    metric, probable = "probability of the right labels", True

    def __init__(self, context: RungContext) -> None:
        self._context = context

    @contextmanager
    def asked_behind(self, prompt: PromptSpec) -> Iterator[AnswerPrompts]:
        """Scores ``prompt.answers``."""
        engine, servable = self._context.engine(), trial_servable(self._context, prompt)

        def scored(prompts: Sequence[Sequence[Message]], keep: KeepTrial) -> None:
            for place, one in enumerate(engine.score(servable.id, prompts, prompt.answers)):
                keep(place, list(one.log_probabilities))

        engine.load(servable)
        try:
            yield scored
        finally:
            engine.unload(servable.id)

    def scores(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any], priors: tuple[float, ...] | None) -> Floats:
        """Probabilities of the rows' answers."""
        taken = preference(np.array(answers)) if priors is None else priors
        prompt = prompt.model_copy(update={"priors": taken})
        place = {answer: at for at, answer in enumerate(prompt.answers)}
        adjusted = [without_priors(prompt, nats)[place[row.answer]] for row, nats in zip(rows, answers, strict=True)]
        scores: Floats = np.clip(np.exp(np.array(adjusted, dtype=float)), 0.0, 1.0)
        return scores

    def mistakes(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any]) -> list[tuple[Row, str]]:
        """Rows with another label than theirs."""
        prompt = prompt.model_copy(update={"priors": preference(np.array(answers))}) if answers else prompt
        said = [decide_label(prompt, nats).answer for nats in answers]
        return [(row, answer) for row, answer in zip(rows, said, strict=True) if answer != row.answer]


def preference(nats_NK: Floats) -> tuple[float, ...]:
    """What rows make the model prefer, log-probabilities (nats) in the order of the K answers: the mean of what it gives them, with one
    more row that prefers nothing for each answer (batch calibration, Zhou et al. 2024, arXiv 2309.17249)."""
    rows, answers = nats_NK.shape
    return tuple(float(nats) for nats in np.log((np.exp(nats_NK).sum(axis=0) + 1) / (rows + answers)))


class _Overlap:
    """Scores of what was written, by its overlap with the row's answer."""

    probable = False

    def __init__(self, context: RungContext) -> None:
        self.metric, form = _overlap_of(context), context.objective.task.format
        self._of_objects = self.metric == "exact_match" and form is not None and form.json_keys is not None

    def scores(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any], priors: tuple[float, ...] | None) -> Floats:
        """Overlaps in the metric."""
        del prompt, priors
        overlap = _same_object_or_nearly if self._of_objects else _OVERLAPS[self.metric]
        return np.array([overlap(answer, shown_answer(row.answer)) for row, answer in zip(rows, answers, strict=True)])

    def mistakes(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any]) -> list[tuple[Row, str]]:
        """The half that overlaps least."""
        scores = self.scores(prompt, rows, answers, None)
        worst = sorted(range(len(rows)), key=lambda at: (scores[at], at))[: len(rows) // 2]
        return [(rows[at], str(answers[at])) for at in worst]


class GeneratedTexts(_Overlap, _OfTheBase):
    """Implements ``TrialAnswers`` by what the base model writes."""

    def __init__(self, context: RungContext) -> None:
        super().__init__(context)
        self._context, self._sampling = context, Sampling(max_tokens=_longest_answer(context))

    @contextmanager
    def asked_behind(self, prompt: PromptSpec) -> Iterator[AnswerPrompts]:
        """Generates."""
        engine, servable = self._context.engine(), trial_servable(self._context, prompt)

        def written(prompts: Sequence[Sequence[Message]], keep: KeepTrial) -> None:
            for place, answer in enumerate(engine.generate(servable.id, prompts, self._sampling)):
                keep(place, as_line(Message(role="assistant", content=answer.text, tool_calls=answer.tool_calls)))

        engine.load(servable)
        try:
            yield written
        finally:
            engine.unload(servable.id)


def _asked_outside(ask: AskHosted, sampling: Sampling, read: Callable[[str], str] = str) -> AnswerPrompts:
    """Asks a hosted model: what it writes, as it is ``read``, and nothing where its server refuses to answer."""

    def asked(prompts: Sequence[Sequence[Message]], keep: KeepTrial) -> None:
        ask(prompts, sampling, lambda place, answer: keep(place, read("" if answer.refused else answer.text)))

    return asked


class HostedTexts(_Overlap, _OfAServer):
    """Implements ``TrialAnswers`` by what a hosted model writes."""

    def __init__(self, context: RungContext, ask: AskHosted) -> None:
        super().__init__(context)
        self._ask = ask

    @contextmanager
    def asked_behind(self, prompt: PromptSpec) -> Iterator[AnswerPrompts]:
        """Asks for text."""
        del prompt
        yield _asked_outside(self._ask, Sampling(max_tokens=_MOST_TOKENS), lambda text: as_line(Message(role="assistant", content=text)))


class NamedLabels(_OfAServer):
    """Implements ``TrialAnswers`` by the labels that a hosted model names: right or wrong, for it gives no probabilities."""

    metric, probable = "the share of right labels", False

    def __init__(self, ask: AskHosted) -> None:
        self._ask = ask

    @contextmanager
    def asked_behind(self, prompt: PromptSpec) -> Iterator[AnswerPrompts]:
        """Asks for text, which names a label or does not."""
        del prompt
        yield _asked_outside(self._ask, Sampling())

    def scores(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any], priors: tuple[float, ...] | None) -> Floats:
        """1 where the label is the row's."""
        del priors
        return np.array([float(answered_label(prompt, text) == row.answer) for row, text in zip(rows, answers, strict=True)])

    def mistakes(self, prompt: PromptSpec, rows: Sequence[Row], answers: Sequence[Any]) -> list[tuple[Row, str]]:
        """Rows with another label than theirs, or none."""
        return [(row, text) for row, text in zip(rows, answers, strict=True) if answered_label(prompt, text) != row.answer]


def _nearly_same(answer: str, target: str) -> float:
    """Right or wrong, and half of it by how much of the answer is right: on few rows most prompts have as many that are wholly right."""
    return (float(normalise(answer) == normalise(target)) + chrf(answer, target)) / 2


def _same_object_or_nearly(answer: str, target: str) -> float:
    """As ``_nearly_same``, of answers that are to be JSON objects: one that says the same is right, however it is written, and one that
    says something else is not."""
    same = same_objects(answer, target)
    if same is None:
        return _nearly_same(answer, target)
    return 1.0 if same else chrf(answer, target) / 2


def _of_fields(answer: str, target: str) -> float:
    """The score of its fields; of a target that is no object, as ``_nearly_same``."""
    found = field_score(answer, target)
    return _nearly_same(answer, target) if found is None else found


#: Metrics of a text by which prompts that generate can be compared: those that an objective may compare by.
_OVERLAPS: dict[str, Callable[[str, str], float]] = {
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "chrf": chrf,
    "exact_match": _nearly_same,
    "field_score": _of_fields,
}


def _longest_answer(context: RungContext) -> int:
    """Tokens that an answer may take: half as many again as the longest of train, so that one which does not end costs no more."""
    longest = sorted({shown_answer(row.answer) for row in context.shown}, key=lambda answer: (-len(answer), answer))[:8]
    counts = context.engine().count_tokens(context.base_folder, [[Message(role="user", content=answer)] for answer in longest])
    return min(_MOST_TOKENS, 3 * max(counts) // 2)


def _overlap_of(context: RungContext) -> str:
    """The metric in which the objective compares, or its first KPI that is one; token_f1 where there is none."""
    objective = context.objective
    named = (objective.compare_on or "", *(kpi.metric for kpi in objective.kpis))
    return next((metric for metric in named if metric in _OVERLAPS), "token_f1")
