"""A floor in the real engine: it answers without any model's weights, to both doors, and refuses what is not its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.inference import open_engine
from tailorbird.inference.engine import TorchEngine
from tailorbird.text.linear_classifier import LinearText, write_linear

ID = digest_bytes(b"floor")


LABELS = ("card", "refund", "top up")


ASKED = [Message(role="system", content="Classify: refund."), Message(role="user", content="where is my card")]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[TorchEngine]:
    weights = np.zeros((3, 2))
    weights[0, 0] = weights[1, 1] = 2.0
    write_linear(LinearText(LABELS, {"card": 0, "refund": 1}, {}, np.ones(2), weights, np.zeros(3)), tmp_path)
    opened = open_engine("fp32")
    prompt = PromptSpec(instruction="Classify.", labels=LABELS)
    servable = Servable(
        id=ID, tenant="acme", task=TaskKind.CLASSIFY, base="", adapter=None, weights=None, prompt=prompt, floor=str(tmp_path)
    )
    opened.load(servable)
    yield opened
    opened.close()


def test_it_reads_the_last_message_alone_and_answers_in_the_order_asked(engine: TorchEngine) -> None:
    assert engine.loaded() == (ID,)
    [found] = engine.score(ID, [ASKED], LABELS)
    assert np.argmax(found.log_probabilities) == 0
    assert sum(np.exp(found.log_probabilities)) == pytest.approx(1)
    assert found.prompt_tokens == 0
    [backward] = engine.score(ID, [ASKED], LABELS[::-1])
    assert backward.log_probabilities == found.log_probabilities[::-1]


def test_what_is_not_its_own_is_refused(engine: TorchEngine) -> None:
    with pytest.raises(InvalidInput, match="own labels"):
        engine.score(ID, [ASKED], ("card", "refund"))
    with pytest.raises(NotFound):
        engine.generate(ID, [ASKED], Sampling())
    engine.unload(ID)
    assert engine.loaded() == ()
    with pytest.raises(NotFound):
        engine.score(ID, [ASKED], LABELS)
