"""What endpoints are paid: whatever becomes of a request, its price is on the bill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

import pytest

from support.hosted import MODEL, USAGE, WHOLE, Reply, endpoint, event, fault, scripted
from support.serving import CLASSIFY, DirectDriver, House, writing
from tailorbird.domain.deployment import Servable, most_read
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.ports.endpoint import EndpointClient, HostedChunk
from tailorbird.ports.engine import Chunk, LoadRequest
from tailorbird.serving.hosted_models import Bill, HostedAccess, HostedDriver, billed

TEXT = (Message(role="user", content="I lost my card"),)
RELEASES = [Digest("sha256:" + letter * 64) for letter in "ab"]
#: What a server writes for itself, five bytes of it.
THOUGHT = event(delta={"reasoning_content": "hmmm."})


class Outside:
    """Endpoint of a test: its record, its client, and the driver that asks it."""

    def __init__(self, house: House, client: EndpointClient | None = None, **changes: object) -> None:
        self.made = endpoint(**changes)
        self.client = client or OpenAiEndpoint(self.made, MODEL, lambda: "key")
        self.driver = HostedDriver(DirectDriver(house), self.access)

    @property
    def access(self) -> HostedAccess:
        return HostedAccess(
            admit=self.admit,
            endpoint=lambda *_: self.made,
            client=lambda *_: self.client,
        )

    def admit(self, request: LoadRequest) -> Servable:
        hosted = HostedModel(endpoint="outside", url=self.made.url, model=MODEL, reported=MODEL)
        return Servable(
            id=request.release, tenant="acme", task=TaskKind.GENERATE, base="", adapter=None, weights=None, prompt=CLASSIFY, hosted=hosted
        )

    async def load(self) -> None:
        for release in RELEASES:
            await self.driver.load(LoadRequest(tenant="acme", release=release, purpose="production"))

    async def ask(self, most: int = 99, release: Digest = RELEASES[0], bill: Bill | None = None) -> Bill:
        """The bill of one answer, of which at most so many pieces are taken; an error is not raised."""
        bill = bill or Bill()
        pieces: AsyncGenerator[Chunk, None] = billed(bill, await self.driver.ask(writing(release, TEXT, Sampling(max_tokens=8))))
        with suppress(TailorbirdError):
            async for _ in pieces:
                most -= 1
                if most <= 0:
                    break
        await pieces.aclose()
        return bill


def paid(house: House, reply: Reply, most: int = 99, *, estimated: bool, **changes: object) -> float:
    """What one answer of a server that replies so is paid, and whether by an estimate."""

    async def story(url: str) -> Bill:
        outside = Outside(house, **({"url": url, "private": True} | changes))
        await outside.load()
        try:
            return await outside.ask(most)
        finally:
            await outside.driver.close()

    with scripted(reply) as server:
        bill = asyncio.run(story(server.url))
    assert (bill.endpoint, bill.estimated) == ("outside", estimated)
    return bill.paid


def test_an_answer_costs_what_its_server_says(house: House) -> None:
    assert paid(house, Reply(), estimated=False) == pytest.approx(endpoint().cost(7, 2))


def test_without_word_of_its_server_a_byte_is_a_token(house: House) -> None:
    silent = Reply(parts=[part for part in WHOLE if part != USAGE])
    assert paid(house, silent, estimated=True) == pytest.approx(endpoint().cost(most_read(TEXT), len("lost card")))


@pytest.mark.parametrize(
    ("reply", "written"),
    [
        (Reply(pause=5.0), 0),
        (Reply(parts=[event("lost", model="tiny")]), 4),
        (Reply(parts=[THOUGHT, event("lost"), THOUGHT, b"data: {broken\n\n"]), 14),
        (fault(400, code="content_filter"), 0),
    ],
)
def test_what_breaks_off_or_is_refused_is_paid_for(house: House, reply: Reply, written: int) -> None:
    patience = 0.3 if reply.pause else 20.0
    assert paid(house, reply, estimated=True, timeout_s=patience) == pytest.approx(endpoint().cost(most_read(TEXT), written))


def test_what_is_under_way_may_cost_the_most(house: House) -> None:
    """What the row of a stream is opened with, until the server tells what it read and wrote."""

    async def story(url: str) -> list[float]:
        outside, bill, seen = Outside(house, url=url, private=True), Bill(), list[float]()
        await outside.load()
        async for _ in billed(bill, await outside.driver.ask(writing(RELEASES[0], TEXT, Sampling(max_tokens=8)))):
            seen.append(bill.most)
        await outside.driver.close()
        return [*seen, bill.most]

    with scripted(Reply()) as server:
        first, *_, last = asyncio.run(story(server.url))
    assert first == pytest.approx(endpoint().cost(most_read(TEXT), 8))
    assert last == pytest.approx(endpoint().cost(7, 2))


def test_reasoning_is_paid_for_by_a_caller_who_leaves_before_the_first_word(house: House) -> None:
    """Nothing that a caller is given tells of it, so nothing that he is given is counted by."""

    async def story() -> tuple[Bill, list[str]]:
        thought, client = asyncio.Event(), Held()

        async def stream(prompt: Sequence[Message], sampling: Sampling) -> AsyncGenerator[HostedChunk, None]:
            for _ in range(3):
                yield HostedChunk(text="", written=500, model=MODEL)
            thought.set()
            await client.go.wait()

        client.stream = stream  # type: ignore[method-assign]
        outside, bill, given = Outside(house, client), Bill(), list[str]()  # type: ignore[arg-type]
        await outside.load()

        async def caller() -> None:
            async for piece in billed(bill, await outside.driver.ask(writing(RELEASES[0], TEXT, Sampling(max_tokens=8)))):
                given.append(piece.text)

        asking = asyncio.create_task(caller())
        while not thought.is_set() and not asking.done():
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        return bill, given

    bill, given = asyncio.run(story())
    assert bill.paid == pytest.approx(endpoint().cost(most_read(TEXT), 1500))
    assert given == []


@pytest.mark.parametrize(
    "reply",
    [
        fault(429),
        fault(500),
        fault(400, param="messages"),
    ],
)
def test_what_the_server_did_not_take_costs_nothing(house: House, reply: Reply) -> None:
    assert paid(house, reply, estimated=False) == 0.0


class Held:
    """A client whose answers wait until they are let go."""

    def __init__(self, error: TailorbirdError | None = None) -> None:
        self.go = asyncio.Event()
        self.asked = 0
        self.error = error
        self.lost = (0, 0)

    async def answer(self, prompt: Sequence[Message], sampling: Sampling) -> None:  # type: ignore[empty-body]
        raise NotImplementedError

    async def stream(self, prompt: Sequence[Message], sampling: Sampling) -> AsyncGenerator[HostedChunk, None]:
        self.asked += 1
        await self.go.wait()
        if self.error is not None:
            raise self.error
        yield HostedChunk(text="", finish_reason="stop", prompt_tokens=5, completion_tokens=0, model=MODEL)

    async def close(self) -> None:
        pass
