"""Predicting: every row once, in order, the best label or the generated answer, with times a server would show."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tailorbird.chat.conversations import fold_turns
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import EVERYONE, Provenance, Row, Split
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Message, PromptSpec, Retrieval, RetrievedEntry, Sampling
from tailorbird.evaluation.predictions import PredictionRequest, engine_predictions
from tailorbird.ports.engine import Generation, LabelScores

LABELS = ("delivery", "invoice", "refund")
PLACE = Provenance(file="f.csv", file_digest=digest_bytes(b"f"), line=1, origin="o", license="l", collected="c", consent="c")


class ContainsEngine:
    """Prefers the label whose name stands in the text, and repeats the text when it generates."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def score(self, servable: str, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        self.sizes.append(len(prompts))
        return [self._scores(prompt[-1].content, labels) for prompt in prompts]

    def _scores(self, text: str, labels: Sequence[str]) -> LabelScores:
        raw = [1.0 if label in text else 0.0 for label in labels]
        total = math.log(sum(math.exp(r) for r in raw))
        return LabelScores(log_probabilities=tuple(r - total for r in raw), prompt_tokens=len(text), latency_ms=7.0)

    def generate(
        self,
        servable: str,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        self.sizes.append(len(prompts))
        assert sampling.temperature == 0
        texts = [prompt[-1].content for prompt in prompts]
        return [Generation(text=t, finish_reason="stop", prompt_tokens=3, completion_tokens=2, latency_ms=9.0) for t in texts]

    def load(self, servable: Servable) -> None: ...
    def unload(self, servable: str) -> None: ...
    def loaded(self) -> tuple[str, ...]:
        return ()

    def fingerprint(self) -> str:
        return "contains"

    def count_tokens(self, base: Path, prompts: Sequence[Sequence[Message]]) -> list[int]:
        return [1 for _ in prompts]


def rows(*texts: str) -> tuple[Row, ...]:
    return tuple(
        Row(id=digest_bytes(f"{i}{t}".encode()), text=t, target="refund", group="g", split=Split.DEV, provenance=PLACE)
        for i, t in enumerate(texts)
    )


def request(
    kind: TaskKind, given: tuple[Row, ...], engine: ContainsEngine, labels: tuple[str, ...] = LABELS, **more: Any
) -> PredictionRequest:
    prompt = PromptSpec(instruction="Classify.", labels=labels)
    servable = Servable(id=digest_bytes(b"s"), tenant="acme", task=kind, base="b", adapter=None, weights=None, prompt=prompt)
    defaults: dict[str, Any] = {"progress": lambda done, total: None}
    return PredictionRequest(engine=engine, servable=servable, rows=given, **(defaults | more))


def test_the_best_label_wins_and_the_first_of_equals() -> None:
    given = rows("a refund please", "where is my delivery", "nothing named", "invoice or refund")
    found = engine_predictions(request(TaskKind.CLASSIFY, given, ContainsEngine()))
    assert [p.answer for p in found] == ["refund", "delivery", "delivery", "invoice"]
    assert [p.item for p in found] == [row.id for row in given]
    for p in found:
        assert p.log_probabilities is not None
        assert tuple(p.log_probabilities) == LABELS
        assert sum(math.exp(v) for v in p.log_probabilities.values()) == pytest.approx(1)


def test_first_rows_are_timed_as_requests_and_the_rest_batched() -> None:
    engine, seen = ContainsEngine(), []
    given = rows(*["refund"] * 11)
    found = engine_predictions(
        request(TaskKind.CLASSIFY, given, engine, timed=5, concurrency=2, chunk=4, progress=lambda done, total: seen.append((done, total)))
    )
    assert engine.sizes == [2, 2, 1, 4, 2]
    assert [p.request_ms for p in found] == [7.0] * 5 + [None] * 6
    assert all(p.latency_ms >= 0 for p in found)
    assert seen == [(2, 11), (4, 11), (5, 11), (9, 11), (11, 11)]


class LookingEngine(ContainsEngine):
    """Finds the one passage whatever is asked, and takes its time; keeps the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[str] = []

    def retrieve(self, servable: str, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[RetrievedEntry]]:
        assert groups == frozenset({EVERYONE})
        self.queries += texts
        time.sleep(0.05)
        entry = Entry(id="fees#0", title="Fees", text="A refund takes three days.", access=(EVERYONE,))
        return [[RetrievedEntry(entry=entry, score=1.0)][:count] for _ in texts]


def grounded(engine: ContainsEngine, given: tuple[Row, ...]) -> PredictionRequest:
    asked = request(TaskKind.GENERATE, given, engine, labels=())
    spec = Retrieval(what="passages", ways=("words",), count=1, index=digest_bytes(b"i"))
    return replace(asked, servable=asked.servable.model_copy(update={"retrieval": LocalRetrieval(spec=spec, index="i")}))


def test_a_conversation_is_looked_up_by_its_last_message() -> None:
    turns = [
        Message(role="user", content="A refund?"),
        Message(role="assistant", content="Yes."),
        Message(role="user", content="How long?"),
    ]
    engine = LookingEngine()
    engine_predictions(grounded(engine, rows(fold_turns(turns))))
    assert engine.queries == ["How long?"]
