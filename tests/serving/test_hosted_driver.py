"""Hosted models behind the gateway: asked within time and money, and stood in for by the release before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from support.doubles import MemoryEndpoint, MemoryEngine
from support.hosted import DONE, MODEL, USAGE, WHOLE, Reply, endpoint, event, fault, last_word, scripted
from support.serving import CLASSIFY, DirectDriver, House, scoring, writing
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.endpoint import Endpoint, HostedModel
from tailorbird.domain.errors import Forbidden, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Retrieval, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.ports.endpoint import EndpointClient
from tailorbird.ports.engine import EmbedRequest, LoadRequest, RankRequest, RetrieveRequest
from tailorbird.serving.alias_routes import AliasRoutes, TrafficArm
from tailorbird.serving.answers import AnswerPiece, AnswerService, with_fallback
from tailorbird.serving.hosted_models import HostedAccess, HostedDriver

TEXT = (Message(role="user", content="I lost my card"),)
HOSTED = Digest("sha256:" + "a" * 64)
FORMER = Digest("sha256:" + "b" * 64)


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


def test_an_answer_without_a_label_is_for_a_person(house: House) -> None:
    client = MemoryEndpoint(lambda _: "It depends.", model=MODEL)
    (piece,), _ = ask(house, Record(lambda _: client, TaskKind.CLASSIFY))
    assert (piece.text, piece.referred) == ("", True)


def test_a_text_that_a_hosted_model_writes(house: House) -> None:
    with scripted() as server:
        pieces, _ = ask(house, Record(remote, TaskKind.GENERATE, endpoint(url=server.url, private=True)), whole=False)
    assert "".join(piece.text for piece in pieces) == "lost card"
    assert not any(piece.fallback for piece in pieces)
    assert (pieces[-1].prompt_tokens, pieces[-1].completion_tokens) == (7, 2)


def test_the_log_tells_what_kept_a_hosted_model_from_answering(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """One code covers a server that is away, slow or unreadable."""
    with scripted(Reply(503)) as server:
        (piece,), _ = ask(house, Record(remote, TaskKind.CLASSIFY, endpoint(url=server.url, private=True)))
    assert piece.fallback
    (told,) = [one.getMessage() for one in caplog.records if "did not answer" in one.getMessage()]
    assert "(endpoint_unavailable: the endpoint outside answered with status 503)" in told


BROKEN = Reply(parts=[event("lost"), b'data: {"choices": [{"del\n\n'])


@pytest.mark.parametrize(
    "reply",
    [
        fault(429, {"retry-after": "30"}),
        fault(500),
        fault(401),
        fault(404),
        fault(400, code="content_filter"),
        Reply(pause=30.0),
        Reply(parts=[event("lost", model="tiny"), event(finish_reason="stop", model="tiny")]),
        Reply(parts=[b"<html></html>"]),
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


def test_a_server_that_is_down_and_nothing_before_it(house: House) -> None:
    made = endpoint(url="http://127.0.0.1:9", private=True)
    with pytest.raises(Unavailable) as refused:
        ask(house, Record(remote, TaskKind.GENERATE, made), fallback=False)
    assert refused.value.error_code == "endpoint_unavailable"
    pieces, _ = ask(house, Record(remote, TaskKind.GENERATE, made))
    assert pieces[0].fallback


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


@pytest.mark.parametrize("task", [TaskKind.CLASSIFY, TaskKind.GENERATE])
def test_a_server_that_cannot_be_reached_is_tried_by_few(house: House, task: TaskKind) -> None:
    pieces, driver = ask(house, Record(remote, task, endpoint(url="http://127.0.0.1:9", private=True)), times=5, whole=False)
    assert all(piece.fallback for piece in pieces)
    assert (driver.circuits.open, driver.circuits.not_sent) == (1, 2)


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


def test_it_is_asked_again_by_one_and_then_by_all(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.serving.hosted_models._COOL_DOWN", 0.0)
    with scripted(*[Reply(pause=30.0)] * 3, Reply()) as server:
        made = endpoint(url=server.url, private=True, timeout_s=0.2)
        pieces, driver = ask(house, Record(remote, TaskKind.GENERATE, made), times=6)
        assert len(server.asked) == 6
    assert not any(piece.fallback for piece in pieces)
    assert (driver.circuits.open, driver.circuits.not_sent) == (0, 0)


@pytest.mark.parametrize(
    "error",
    [NotFound("gone", "", code="endpoint_missing"), Forbidden("no", "", code="endpoint_not_allowed")],
)
def test_an_endpoint_that_was_taken_back_is_sent_nothing_more(
    house: House, error: TailorbirdError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailorbird.serving.hosted_models._KNOWN_FOR", -1.0)
    client = MemoryEndpoint(lambda _: "lost_card", model=MODEL)
    record = Record(lambda _: client, TaskKind.CLASSIFY)
    reads = 0

    def once(tenant: str, model: HostedModel) -> Endpoint:
        nonlocal reads
        reads += 1
        if reads > 1:
            raise error
        return record.made

    record.endpoint = once  # type: ignore[method-assign]
    (piece,), _ = ask(house, record, times=2)
    assert piece.fallback
    assert len(client.asked) == 1


def test_a_new_timeout_opens_a_new_client_and_a_new_price_does_not(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailorbird.serving.hosted_models._KNOWN_FOR", -1.0)
    clients = [MemoryEndpoint(lambda _: "lost_card", model=MODEL) for _ in range(2)]
    record = Record(lambda made: clients[made.timeout_s == 5.0], TaskKind.CLASSIFY)
    dearer = {"input_price": 4.0, "region": "EU (Other Ltd)"}
    reads = iter([endpoint(**dearer)])
    record.endpoint = lambda *_: next(reads)  # type: ignore[method-assign]
    ask(house, record)
    assert (record.opened, len(clients[0].asked), clients[0].closed) == (1, 1, 1), "closed with the driver"
    reads = iter([endpoint(), endpoint(**dearer), endpoint(timeout_s=5.0), endpoint(timeout_s=5.0)])
    ask(house, record, times=4)
    assert [len(client.asked) for client in clients] == [3, 2]
    assert record.opened == 3
    assert clients[0].closed == 2


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


def test_first_requests_at_once_and_a_release_that_is_freed_meanwhile_leave_no_client_open(house: House) -> None:
    opened: list[MemoryEndpoint] = []

    def client(_: Endpoint) -> EndpointClient:
        opened.append(MemoryEndpoint(lambda _: "lost card", model=MODEL))
        return opened[-1]

    async def answer(driver: HostedDriver) -> str:
        return "".join([piece.text async for piece in await driver.ask(writing(HOSTED, TEXT, Sampling()))])

    async def story() -> None:
        driver = HostedDriver(DirectDriver(house), Record(client, TaskKind.GENERATE).access)
        await driver.load(LoadRequest(tenant="acme", release=HOSTED, purpose="production"))
        both = [asyncio.create_task(answer(driver)) for _ in range(2)]
        await asyncio.sleep(0)
        await driver.unload(HOSTED)
        assert await asyncio.gather(*both) == ["lost card"] * 2
        await driver.close()

    asyncio.run(story())
    assert opened
    assert all(one.closed for one in opened)


def test_a_server_that_no_longer_says_who_answers(house: House) -> None:
    nameless = Reply(parts=[event("lost", model=""), event(finish_reason="stop", model="", delta={})])
    with scripted(nameless) as server:
        pieces, _ = ask(house, Record(remote, TaskKind.GENERATE, endpoint(url=server.url, private=True)))
    assert all(piece.fallback for piece in pieces)


def test_it_writes_answers_and_nothing_else(house: House) -> None:
    record = Record(lambda _: MemoryEndpoint(lambda _: "x", model=MODEL), TaskKind.GENERATE)

    async def story() -> None:
        driver = HostedDriver(DirectDriver(house), record.access)
        await driver.load(LoadRequest(tenant="acme", release=HOSTED, purpose="production"))
        assert (await driver.status()).loaded == (HOSTED,)
        calls: Sequence[Awaitable[object]] = (
            driver.ask(scoring(HOSTED, TEXT, ["a"])),
            driver.ask(EmbedRequest(release=HOSTED, texts=("a",))),
            driver.ask(RankRequest(release=HOSTED, text="a", documents=("b",), count=1)),
            driver.ask(RetrieveRequest(release=HOSTED, text="a", groups=frozenset(), count=1)),
        )
        for call in calls:
            with pytest.raises(InvalidInput):
                await call
        await driver.unload(HOSTED)
        assert (await driver.status()).loaded == ()
        await driver.close()

    asyncio.run(story())


class Quoting(Record):
    """A hosted release that looks something up."""

    def admit(self, request: LoadRequest) -> Servable | None:
        spec = Retrieval(what="passages", ways=("words",), count=1, index=FORMER)
        found = super().admit(request.model_copy(update={"release": HOSTED}))
        return found and found.model_copy(update={"id": request.release, "retrieval": LocalRetrieval(spec=spec, index="index")})


def test_one_that_looks_something_up_is_loaded_while_the_engine_can(house: House) -> None:
    engine, release = MemoryEngine(), house.release(1)
    record = Quoting(lambda _: MemoryEndpoint(last_word), TaskKind.CLASSIFY)
    request = LoadRequest(tenant="acme", release=release, purpose="production")

    async def story() -> None:
        driver = HostedDriver(DirectDriver(house, engine), record.access)
        await driver.load(request)
        assert (await driver.status()).loaded == engine.loaded() == (release,)
        assert [each.release for each in (await driver.status()).releases] == [release]
        engine.unload(release)  # it was started anew
        assert (await driver.status()).loaded == ()
        await driver.load(request)
        assert (await driver.status()).loaded == engine.loaded() == (release,)
        await driver.unload(release)
        assert (await driver.status()).loaded == engine.loaded() == ()
        await driver.close()

    asyncio.run(story())


def test_a_server_that_names_another_fingerprint_in_each_piece_fills_no_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="tailorbird.serving")
    pieces = [event("a").replace(b"fp_1", f"fp_{n}".encode()) for n in range(200)]
    with scripted(Reply(parts=[*pieces, event(finish_reason="stop", delta={}), USAGE, DONE])) as server:
        record = Record(remote, TaskKind.GENERATE, endpoint(url=server.url, private=True))
        found, _ = ask(house, record, fallback=False)
    assert "".join(piece.text for piece in found) == "a" * 200
    assert sum("fingerprint" in one.message for one in caplog.records) == 16


@pytest.mark.parametrize("kind", [Record, Quoting])
def test_each_load_is_admitted_for_what_it_is_for(house: House, kind: type[Record]) -> None:
    record, release = kind(lambda _: MemoryEndpoint(last_word), TaskKind.CLASSIFY), HOSTED if kind is Record else house.release(1)
    admitted, admit = list[str](), record.admit
    record.admit = lambda request: admitted.append(request.purpose) or admit(request)  # type: ignore[method-assign]

    async def story() -> None:
        driver = HostedDriver(DirectDriver(house, MemoryEngine()), record.access)
        for purpose in ("staging", "production"):
            await driver.load(LoadRequest.model_validate({"tenant": "acme", "release": release, "purpose": purpose}))
        await driver.close()

    asyncio.run(story())
    assert admitted == ["staging", "production"]
