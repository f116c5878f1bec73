"""Hosted models behind the gateway: asked within time and money, and stood in for by the release before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from support.doubles import MemoryEndpoint, MemoryEngine
from support.hosted import MODEL, WHOLE, Reply, endpoint, event, fault, scripted
from support.serving import CLASSIFY, DirectDriver, House, writing
from tailorbird.domain.deployment import Servable
from tailorbird.domain.endpoint import Endpoint, HostedModel
from tailorbird.domain.errors import TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.ports.endpoint import EndpointClient
from tailorbird.ports.engine import LoadRequest
from tailorbird.serving.alias_routes import AliasRoutes, TrafficArm
from tailorbird.serving.answers import AnswerPiece, AnswerService, with_fallback
from tailorbird.serving.hosted_models import HostedAccess, HostedDriver

TEXT = (Message(role="user", content="I lost my card"),)
HOSTED = Digest("sha256:" + "a" * 64)


class Record:
    """What the driver asks of the record, and may be changed by a test."""

    def __init__(self, client: Callable[[Endpoint], EndpointClient], task: TaskKind, made: Endpoint | None = None) -> None:
        self.made = made or endpoint()
        self.error: TailorbirdError | None = None
        self.task = task
        self.opened = 0
        self._client = client

    @property
    def access(self) -> HostedAccess:
        return HostedAccess(self.admit, self.endpoint, self.client)

    def admit(self, request: LoadRequest) -> Servable | None:
        hosted = HostedModel(endpoint="outside", url=self.made.url, model=MODEL, reported=MODEL) if request.release == HOSTED else None
        prompt = CLASSIFY.model_copy(update={"list_labels": True})
        return hosted and Servable(
            id=HOSTED, tenant="acme", task=self.task, base="", adapter=None, weights=None, prompt=prompt, hosted=hosted
        )

    def endpoint(self, tenant: str, model: HostedModel) -> Endpoint:
        assert (tenant, model.endpoint) == ("acme", "outside")
        if self.error is not None:
            raise self.error
        return self.made

    def client(self, made: Endpoint, model: str) -> EndpointClient:
        assert model == MODEL
        self.opened += 1
        return self._client(made)


def ask(
    house: House, record: Record, times: int = 1, *, fallback: bool = True, whole: bool = True, pause: float = 0.0
) -> tuple[list[AnswerPiece], HostedDriver]:
    """The pieces of the last of so many answers."""

    async def story() -> tuple[list[AnswerPiece], HostedDriver]:
        driver = HostedDriver(DirectDriver(house, MemoryEngine()), record.access)
        former = house.release(1, task=record.task)
        for release in (HOSTED, former):
            await driver.load(LoadRequest(tenant="acme", release=release, purpose="production"))
        stand_in = TrafficArm("fallback", former, record.task, CLASSIFY)
        servable = record.admit(LoadRequest(tenant="acme", release=HOSTED, purpose="production"))
        assert servable is not None
        arm = TrafficArm("a", HOSTED, record.task, servable.prompt, hosted=servable.hosted, fallback=stand_in if fallback else None)
        answers = AnswerService(driver, AliasRoutes(), lambda _: None)
        found: list[AnswerPiece] = []
        try:
            for _ in range(times):
                await asyncio.sleep(pause)
                made = with_fallback(answers.pieces, arm, TEXT, Sampling(max_tokens=8), frozenset(), whole=whole)
                async with aclosing(made) as pieces:
                    found = [piece async for piece in pieces]
        finally:
            await driver.close()
        return found, driver

    return asyncio.run(story())


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def remote(made: Endpoint) -> EndpointClient:
    return OpenAiEndpoint(made, MODEL, lambda: "key")


def test_a_label_that_a_hosted_model_writes(house: House) -> None:
    client = MemoryEndpoint(lambda _: "Lost_card.", model=MODEL)
    (piece,), _ = ask(house, Record(lambda _: client, TaskKind.CLASSIFY))
    assert (piece.text, piece.finish_reason, piece.fallback, piece.referred) == ("lost_card", "stop", False, False)
    assert piece.probabilities == {}
    assert "exactly one of: lost_card" in client.asked[0][0].content


BROKEN = Reply(parts=[event("lost"), b'data: {"choices": [{"del\n\n'])


@pytest.mark.parametrize(
    "reply",
    [
        fault(500),
        fault(400, code="content_filter"),
        Reply(pause=30.0),
        BROKEN,
    ],
)
@pytest.mark.parametrize("task", [TaskKind.CLASSIFY, TaskKind.GENERATE])
def test_the_release_before_answers_where_it_does_not(house: House, reply: Reply, task: TaskKind) -> None:
    with scripted(reply) as server:
        made = endpoint(url=server.url, private=True, timeout_s=0.2 if reply.pause else 30.0)
        pieces, _ = ask(house, Record(remote, task, made))
        assert len(server.asked) == 1, "a request of a user is sent once"
    assert all(piece.fallback for piece in pieces)
    assert "".join(piece.text for piece in pieces).casefold().endswith("card"), "by the twin of our engine"


def test_a_stream_whose_first_words_were_given_ends_with_the_error(house: House) -> None:
    with scripted(BROKEN) as server:
        with pytest.raises(Unavailable):
            ask(house, Record(remote, TaskKind.GENERATE, endpoint(url=server.url, private=True)), whole=False)


def test_a_server_that_says_nothing_is_waited_for_by_few(house: House, caplog: pytest.LogCaptureFixture) -> None:
    with scripted(Reply(pause=30.0)) as server:
        made = endpoint(url=server.url, private=True, timeout_s=0.2)
        (piece,), driver = ask(house, Record(remote, TaskKind.CLASSIFY, made), times=8)
    assert piece.fallback
    assert len(server.asked) == 3
    assert (driver.circuits.open, driver.circuits.not_sent) == (1, 5)
    told = [one.getMessage() for one in caplog.records]
    assert [sum(what in one for one in told) for what in ("did not answer", "said nothing to 3 requests")] == [3, 1]


@pytest.mark.parametrize(
    "reply",
    [fault(429), fault(401), fault(503), BROKEN, Reply(parts=[b"<html></html>"]), Reply(parts=[event("a")] * 40, pause=0.05)],
    ids=["busy", "key", "status", "broken", "unreadable", "long"],
)
def test_a_server_that_says_something_is_asked_by_all(house: House, reply: Reply) -> None:
    """What it says may be no answer, or take longer than the timeout."""
    with scripted(reply) as server:
        made = endpoint(url=server.url, private=True, timeout_s=0.3 if reply.pause else 30.0)
        pieces, driver = ask(house, Record(remote, TaskKind.GENERATE, made), times=5)
        assert len(server.asked) == 5
    assert all(piece.fallback for piece in pieces)
    assert driver.circuits.open == 0


@pytest.mark.parametrize("change", ["timeout", "unload"])
def test_a_client_is_closed_after_the_last_answer_that_it_gives(house: House, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    monkeypatch.setattr("tailorbird.serving.hosted_models._KNOWN_FOR", -1.0)

    async def story(record: Record) -> str:
        driver = HostedDriver(DirectDriver(house), record.access)
        await driver.load(LoadRequest(tenant="acme", release=HOSTED, purpose="production"))
        async with aclosing(await driver.ask(writing(HOSTED, TEXT, Sampling()))) as pieces:
            text = (await anext(pieces)).text
            if change == "unload":
                await driver.unload(HOSTED)
            else:
                record.made = endpoint(url=record.made.url, private=True, timeout_s=9.0)
                assert [piece.finish_reason async for piece in await driver.ask(writing(HOSTED, TEXT, Sampling()))][-1] == "stop"
            text += "".join([piece.text async for piece in pieces])
        await driver.close()
        return text

    with scripted(Reply(parts=WHOLE, pause=0.05)) as server:
        assert asyncio.run(story(Record(remote, TaskKind.GENERATE, endpoint(url=server.url, private=True)))) == "lost card"
    closed: list[MemoryEndpoint] = []

    def opened(_: Endpoint) -> EndpointClient:
        closed.append(MemoryEndpoint(lambda _: "lost card", model=MODEL))
        return closed[-1]

    assert asyncio.run(story(Record(opened, TaskKind.GENERATE))) == "lost card"
    assert [client.closed for client in closed] == [1] * len(closed)
