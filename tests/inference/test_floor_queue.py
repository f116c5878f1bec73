"""Embedding batcher: tenants in turn, bounded queues, and failures that end one request alone."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from support.doubles import MemoryEncoder
from support.floors import floors_of
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.base_model import Purpose
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Exhausted, Internal, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.inference import floors as floors_module
from tailorbird.inference.blocking_call import Cancel
from tailorbird.inference.floors import Floors
from tailorbird.ports.encoder import Vectors
from tailorbird.ports.engine import LabelScores, Told
from tailorbird.text.linear_classifier import LinearText, write_linear

LABELS = ("card", "refund", "top up")


class HeldEncoder(MemoryEncoder):
    """Embeds when it is let."""

    def __init__(self) -> None:
        self.go, self.texts = threading.Event(), list[list[str]]()

    def embed(self, folder: Path, texts: Sequence[str], tuned: Path | None = None, purpose: Purpose = "text") -> Vectors:
        if list(texts) != [""]:
            self.texts.append(list(texts))
            assert self.go.wait(30)
        return super().embed(folder, texts, tuned)


def held_floor(tmp_path: Path, tenant: str = "acme") -> tuple[HeldEncoder, Floors, Servable]:
    folder = tmp_path / tenant
    (folder / "encoder").mkdir(parents=True)
    (folder / "encoder" / "config.json").write_text("{}", encoding="utf-8")
    write_linear(LinearText(LABELS, {"card": 0}, {}, np.ones(1), np.zeros((3, 65)), np.zeros(3), 64), folder)
    prompt = PromptSpec(instruction="Classify.", labels=LABELS)
    servable = Servable(
        id=digest_bytes(tenant.encode()),
        tenant=tenant,
        task=TaskKind.CLASSIFY,
        base="",
        adapter=None,
        weights=None,
        prompt=prompt,
        floor=str(folder),
    )
    encoder = HeldEncoder()
    floors, _ = floors_of(lambda: encoder)
    floors.load(servable)
    return encoder, floors, servable


def ask(floors: Floors, servable: Servable, text: str, told: queue.SimpleQueue[Told], *, bounded: bool = True) -> Cancel:
    return floors.score(servable.id, [Message(role="user", content=text)], LABELS, told.put, bounded=bounded)


def when(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.001)


def test_one_of_each_tenant_is_embedded_in_turn_and_who_left_is_not(tmp_path: Path) -> None:
    encoder, floors, ours = held_floor(tmp_path)
    other = held_floor(tmp_path, "globex")[2]
    floors.load(other)
    told: queue.SimpleQueue[Told] = queue.SimpleQueue()
    ask(floors, ours, "first", told)
    when(lambda: len(encoder.texts) == 1)
    cancels = [ask(floors, ours, f"ours {place}", told) for place in range(3)]
    ask(floors, other, "theirs", told)
    cancels[1]()
    cancels[1]()
    encoder.go.set()
    assert all(isinstance(told.get(timeout=30), LabelScores) for _ in range(4))
    assert encoder.texts == [["first"], ["ours 0", "theirs", "ours 2"]]
    when(lambda: all(not held.uses for held in floors._floors.values()))
    assert len(floors._registry._weights) == 3, "two floors with equal encoders"
    floors.unload(ours.id)
    assert len(floors._registry._weights) == 2


def test_too_many_of_a_tenant_are_refused_and_the_end_ends_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors_module, "WAITING_EACH", 2)
    encoder, floors, servable = held_floor(tmp_path)
    told: queue.SimpleQueue[Told] = queue.SimpleQueue()
    ask(floors, servable, "first", told)
    when(lambda: len(encoder.texts) == 1)
    for text in ("second", "third"):
        ask(floors, servable, text, told)
    with pytest.raises(Exhausted, match="too many requests wait"):
        ask(floors, servable, "fourth", told)
    ask(floors, servable, "measured", told, bounded=False)
    floors.close()
    assert {type(told.get(timeout=30)) for _ in range(3)} == {Unavailable}
    encoder.go.set()
    assert isinstance(told.get(timeout=30), LabelScores)
    with pytest.raises(Unavailable):
        ask(floors, servable, "after", told)


def test_what_fails_or_cannot_be_told_ends_its_own_request_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, floors, servable = held_floor(tmp_path)
    encoder.go.set()
    told: queue.SimpleQueue[Told] = queue.SimpleQueue()

    def deaf(_told: Told) -> None:
        raise RuntimeError("the loop is closed")

    floors.score(servable.id, [Message(role="user", content="one")], LABELS, deaf)
    monkeypatch.setattr(MemoryEncoder, "embed", lambda *_: 1 / 0)
    ask(floors, servable, "two", told)
    assert isinstance(told.get(timeout=30), Internal)
    monkeypatch.undo()
    ask(floors, servable, "three", told)
    assert isinstance(told.get(timeout=30), LabelScores)
