"""How well a prompt does on rows held out of train: what rungs choose by."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import EVERYONE, Row
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.domain.retrieval import Entry, Retrieval
from tailorbird.ports.engine import Engine
from tailorbird.rungs.context import RungContext
from tailorbird.rungs.indexes import local_retrieval
from tailorbird.text.conversations import asked
from tailorbird.text.label_decision import without_priors
from tailorbird.text.overlap import token_f1
from tailorbird.text.prompt_rendering import messages_for_row

#: Everybody's access: what may be shown to anybody may be learned from and measured with.
ANYBODY = frozenset({EVERYONE})


def held_out_score(context: RungContext, prompt: PromptSpec, rows: Sequence[Row], retrieval: Retrieval | None = None) -> float:
    """Mean log-probability of the target (classify, nats), or mean overlap with it (generate)."""
    servable = trial(context, prompt, retrieval)
    engine = context.engine()
    engine.load(servable)
    try:
        return fmean(_scores(engine, servable, rows))
    finally:
        engine.unload(servable.id)


def trial(context: RungContext, prompt: PromptSpec, retrieval: Retrieval | None = None) -> Servable:
    """The base model behind a prompt that is tried."""
    local = local_retrieval(retrieval, context.artifacts) if retrieval else None
    return Servable(
        id=digest_of(prompt),
        tenant=context.objective.tenant,
        task=context.objective.task.kind,
        base=str(context.base_folder),
        adapter=None,
        weights=None,
        prompt=prompt,
        retrieval=local,
    )


def looked_up(engine: Engine, servable: Servable, texts: Sequence[str]) -> list[list[Entry]]:
    """What a loaded servable finds for each text, of what anybody may read; nothing where it looks nothing up."""
    if servable.retrieval is None:
        return [[] for _ in texts]
    found = engine.retrieve(servable.id, [asked(text) for text in texts], ANYBODY, servable.retrieval.spec.count)
    return [[one.entry for one in each] for each in found]


def answer_scores(engine: Engine, servable: Servable, rows: Sequence[Row], contexts: Sequence[Sequence[Entry]]) -> list[Sequence[float]]:
    """Log-probabilities of ``prompt.answers`` for each row, as the engine gives them; ``contexts`` is what was looked up for the rows."""
    prompts = [messages_for_row(servable.prompt, row.text, context) for row, context in zip(rows, contexts, strict=True)]
    return [one.log_probabilities for one in engine.score(servable.id, prompts, servable.prompt.answers)]


def _scores(engine: Engine, servable: Servable, rows: Sequence[Row]) -> list[float]:
    contexts = looked_up(engine, servable, [row.text for row in rows])
    if servable.task is TaskKind.CLASSIFY:
        place = {answer: i for i, answer in enumerate(servable.prompt.answers)}
        adjusted = [without_priors(servable.prompt, found) for found in answer_scores(engine, servable, rows, contexts)]
        return [scores[place[row.target]] for row, scores in zip(rows, adjusted, strict=True)]
    prompts = [messages_for_row(servable.prompt, row.text, context) for row, context in zip(rows, contexts, strict=True)]
    answers = engine.generate(servable.id, prompts, Sampling())
    return [token_f1(answer.text, row.target) for row, answer in zip(rows, answers, strict=True)]
