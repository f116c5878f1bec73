"""Batch noise: what another order and batching does to answers is reported, and counts at the gate only where it is proven to cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.usecases import LABELS, write_objective
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.evidence import Evidence
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LabelScores
from tailorbird.testing import MemoryEngine
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.climb.batch_noise import MOST_SCORED
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.submit import adapt


class UnevenEngine(MemoryEngine):
    """Answers every ``every``-th item wrongly where seven are asked at a time, and so many of the others where more are (0: none)."""

    def __init__(self, every: int, others: int = 0) -> None:
        super().__init__()
        self.every, self.others, self.asked = every, others, list[str]()

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        found = super().score(servable, prompts, labels)
        self.asked += [prompt[-1].content for prompt in prompts]
        every = self.every if len(prompts) == 7 else self.others
        return [self._turned(one, prompt[-1].content, every) for one, prompt in zip(found, prompts, strict=True)]

    def _turned(self, scores: LabelScores, text: str, every: int) -> LabelScores:
        if not every or sum(text.encode()) % every:
            return scores
        return scores.model_copy(update={"log_probabilities": scores.log_probabilities[1:] + scores.log_probabilities[:1]})


def released(deps: Dependencies, author: Actor, folder: Path, engine: MemoryEngine, **changes: object) -> Evidence:
    deps = replace(deps, engine=lambda: engine)
    ended = adapt(deps, author, write_objective(folder, hard_share=1000, **changes), Progress())
    assert ended.conclusion is not None
    with deps.ledger.work("acme", write=False) as work:
        return work.records.get(Evidence, show_release(deps, author, str(ended.conclusion.release)).dossier.test_evidence)


def looks(deps: Dependencies) -> int:
    """How often the sealed test was looked at."""
    with deps.ledger.work("acme", write=False) as work:
        return work.looks.count("desk")


def test_a_still_engine_moves_nothing_and_says_so(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    evidence = released(deps, author, tmp_path / "job", MemoryEngine(), ladder=["lora"])
    noise = evidence.batching
    assert noise is not None
    assert noise.base is not None
    assert (noise.candidate.n, noise.candidate.flips, noise.base.flips) == (MOST_SCORED, 0, 0)
    assert noise.candidate.loss("accuracy") == 0.0
    assert any("0 of 64 dev items got another answer (0 of its base's)" in remark for remark in evidence.remarks)


def test_a_prompt_has_no_base_beside_it(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    evidence = released(deps, author, tmp_path / "job", MemoryEngine(), ladder=["prompt"])
    assert evidence.batching is not None
    assert evidence.batching.base is None


def test_what_another_batching_costs_is_shown_and_taken_off(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    evidence = released(deps, author, tmp_path / "job", UnevenEngine(6), ladder=["prompt"], kpis=[{"metric": "accuracy", "target": 0.5}])
    assert evidence.batching is not None
    own = evidence.batching.candidate
    assert own.flips > 8
    assert own.shifts["accuracy"].high < 0
    assert own.loss("accuracy") == pytest.approx(-own.shifts["accuracy"].low)


def test_a_few_flips_both_ways_cost_nothing(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    evidence = released(
        deps, author, tmp_path / "job", UnevenEngine(23, 29), ladder=["prompt"], kpis=[{"metric": "accuracy", "target": 0.5}]
    )
    assert evidence.batching is not None
    own = evidence.batching.candidate
    assert own.flips > 0
    assert own.loss("accuracy") == 0.0


def test_items_of_the_sealed_test_are_asked_once(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    engine = UnevenEngine(0)
    evidence = released(deps, author, tmp_path / "job", engine, ladder=["prompt"])
    counts = {text: engine.asked.count(text) for text in engine.asked}
    assert sum(count == 1 for count in counts.values()) >= evidence.n
    assert evidence.split is Split.TEST
    assert max(counts.values()) >= 2
    assert len(LABELS) == 3


def test_no_look_is_spent_where_dev_cannot_be_answered_again(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """What batching does is measured before the sealed test is opened."""

    class BrokenEngine(MemoryEngine):
        def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
            if len(prompts) == 7:
                raise Unavailable("the engine is away", "try again", code="engine_unavailable")
            return super().score(servable, prompts, labels)

    with pytest.raises(Unavailable):
        released(deps, author, tmp_path / "job", BrokenEngine(), ladder=["prompt"])
    assert looks(deps) == 0
    evidence = released(deps, author, tmp_path / "job", MemoryEngine(), ladder=["prompt"])
    assert looks(deps) == 1
    assert evidence.batching is not None
