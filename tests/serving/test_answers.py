"""A classify release answers with a label and probabilities, a generate release with text; both in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.doubles import MemoryEngine
from support.serving import ASK, CLASSIFY, GENERATE, DirectDriver, House
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Message, Retrieval, RetrievedEntry, Sampling
from tailorbird.ports.engine import Chunk, Generation, LoadRequest
from tailorbird.serving.alias_routes import AliasRoutes, TrafficArm
from tailorbird.serving.answers import AnswerPiece, AnswerService, conversation_for
from tailorbird.text.search_index import write_index

D = digest_bytes(b"index")


def ask(house: House, arm: TrafficArm, messages: tuple[Message, ...], *, load: bool = True) -> tuple[list[AnswerPiece], list[str]]:
    doubts, arm = list[str](), replace(arm, path="acme/routing")

    async def story() -> list[AnswerPiece]:
        driver = DirectDriver(house)
        if load:
            await driver.load(LoadRequest(tenant="acme", release=arm.release, purpose="production"))
        answering = AnswerService(driver, AliasRoutes(), doubts.append)
        return [piece async for piece in answering.pieces(arm, messages, Sampling())]

    try:
        return asyncio.run(story()), doubts
    except Unavailable:
        assert doubts == ["acme/routing"]
        raise


def test_the_conversation_keeps_the_release_instruction_first() -> None:
    told = (
        Message(role="system", content="In French."),
        *ASK,
        Message(role="assistant", content="oui"),
        Message(role="user", content="and?"),
    )
    built = conversation_for(GENERATE, told)
    assert [message.role for message in built] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert built[0].content == "Be brief.\n\nIn French."
    assert [message.content for message in built[1:]] == ["hi", "HI", "I lost my card", "oui", "and?"]


class NotingEngine(MemoryEngine):
    """Keeps what it looks up, for whom, and what it is asked to write."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[tuple[str, frozenset[str]]] = []
        self.prompts: list[tuple[Message, ...]] = []

    def retrieve(self, servable: str, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[RetrievedEntry]]:
        self.looked_up += [(text, groups) for text in texts]
        return super().retrieve(servable, texts, groups, count)

    def generate(
        self,
        servable: str,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        self.prompts += map(tuple, prompts)
        return super().generate(servable, prompts, sampling, on_text)


class CountingDriver(DirectDriver):
    """Tells with each piece how many tokens were written so far, as our engine does of what is read as a whole."""

    async def stream(self, *given: Any) -> AsyncGenerator[Chunk, None]:
        wrote = 0
        async for chunk in super().stream(*given):
            wrote += 1
            yield chunk.model_copy(update={"completion_tokens": chunk.completion_tokens or wrote})


def test_a_conversation_finds_passages_by_its_last_message(house: House, tmp_path: Path) -> None:
    texts = {"open": ("a lost card is blocked at once", EVERYONE), "board": ("the card contract ends in May", "board")}
    write_index(tmp_path, [Entry(id=name, text=text, access=(who,)) for name, (text, who) in texts.items()], None)
    spec = Retrieval(what="passages", ways=("words",), count=2, index=D)
    engine, release = NotingEngine(), house.release(1, task=TaskKind.GENERATE)
    named = {"id": release, "tenant": "acme", "task": TaskKind.GENERATE, "base": "base", "adapter": None, "weights": None}
    engine.load(Servable(**named, prompt=GENERATE, retrieval=LocalRetrieval(spec=spec, index=str(tmp_path))))
    arm = TrafficArm("a", release, TaskKind.GENERATE, GENERATE, retrieval=spec)
    talk = (*ASK, Message(role="assistant", content="It is blocked."), Message(role="user", content="and the contract?"))

    async def story(groups: frozenset[str], driver: DirectDriver) -> list[AnswerPiece]:
        answering = AnswerService(driver, AliasRoutes(), lambda _: None)
        return [piece async for piece in answering.pieces(arm, talk, Sampling(), groups)]

    counted = asyncio.run(story(frozenset({"staff"}), CountingDriver(house, engine)))
    engine.looked_up.clear()
    engine.prompts.clear()
    pieces = asyncio.run(story(frozenset({"staff"}), DirectDriver(house, engine)))
    assert counted[-1].completion_tokens == pieces[-1].completion_tokens
    [(query, groups)] = engine.looked_up
    assert groups == {"staff", EVERYONE}
    assert query == "and the contract?"
    shown = engine.prompts[-1][0].content
    assert "blocked at once" in shown
    assert [[one.id for one in piece.passages] for piece in pieces] == [[]] * (len(pieces) - 1) + [["open"]]
    assert "ends in May" not in "".join(message.content for prompt in engine.prompts for message in prompt)
    assert len(engine.prompts) == 1


@pytest.mark.parametrize("task", [TaskKind.CLASSIFY, TaskKind.GENERATE])
def test_a_release_the_engine_lacks_is_doubted_and_asked_for_again(house: House, task: TaskKind) -> None:
    prompt = CLASSIFY if task is TaskKind.CLASSIFY else GENERATE
    with pytest.raises(Unavailable) as away:
        ask(house, TrafficArm("a", house.release(1, task=task), task, prompt), ASK, load=False)
    assert away.value.error_code == "model_loading"
