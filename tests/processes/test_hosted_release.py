"""A release on a hosted model, asked over HTTP: its server is another gateway; where that fails, the release before answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from support.hosted import MODEL, Reply, endpoint, fault, scripted
from support.processes import ASK, CHAT, Live, live, wait_until
from support.serving import LABELS, House, digest
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.endpoint import Endpoint, HostedModel
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Retrieval
from tailorbird.domain.value import Digest
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.ports.endpoint import EndpointClient
from tailorbird.ports.engine import LoadRequest
from tailorbird.text.search_index import write_index
from tailorbird.usecases import Dependencies


def hosted_release(
    house: House, made: Endpoint, model: str, task: TaskKind = TaskKind.CLASSIFY, retrieval: Retrieval | None = None
) -> Digest:
    """A release in production on the endpoint, which the tenant may use."""
    hosted = HostedModel(endpoint=made.name, url=made.url, model=model, reported=model)
    with house.ledger.system() as system:
        tenant = system.tenants.get("acme")
        policy = TrafficPolicy(endpoints=(made.name,))
        system.tenants.replace(tenant.model_copy(update={"endpoints": (made,), "policy": policy}))
    return house.release(9, task=task, hosted=hosted, retrieval=retrieval)


class Watched(OpenAiEndpoint):
    """Remembers that it was closed."""

    closed = False

    async def close(self) -> None:
        await super().close()
        self.closed = True


@contextmanager
def gateway(house: House, monkeypatch: pytest.MonkeyPatch, key: str) -> Iterator[Live]:
    """A gateway whose releases are admitted without signatures, which the twin's have not."""

    def admit(_deps: Dependencies, request: LoadRequest) -> Servable | None:
        with house.ledger.work(request.tenant, write=False) as work:
            hosted = work.releases.get(request.release).content.hosted
        return house.admit(request).model_copy(update={"hosted": hosted}) if hosted else None

    opened: list[Watched] = []

    def client(made: Endpoint, model: str) -> EndpointClient:
        opened.append(Watched(made, model, lambda: key))
        return opened[-1]

    monkeypatch.setattr("tailorbird.processes.gateway.admit_hosted", admit)
    with live(house, deps=replace(house.deps, endpoint_client=client)) as served:
        yield served
    assert all(each.closed for each in opened)


def ask(served: Live, **changes: object) -> httpx.Response:
    return httpx.post(served.url + CHAT, json=ASK | changes, headers=served.headers, timeout=20)


def moved_to(house: House, served: Live, release: Digest) -> None:
    house.point("routing", release)
    wait_until(lambda: ask(served).headers.get("x-tailorbird-release") == release)


def test_a_hosted_release_is_answered_by_another_gateway(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    other = House(tmp_path / "other")
    other.point("routing", other.release())
    with live(other) as server:
        made = endpoint(url=server.url, private=True)
        release = hosted_release(house, made, "acme/routing")
        house.point("routing", release)
        with gateway(house, monkeypatch, server.secret) as served:
            answer = ask(served)
        assert answer.status_code == 200
        assert answer.headers["x-tailorbird-release"] == release
        assert answer.json()["choices"][0]["message"]["content"] == LABELS[0]
        row = house.rows()[0]
        assert (row.release, row.arm, row.prediction) == (release, "a", LABELS[0])
        assert row.cost == pytest.approx(made.cost(row.prompt_tokens, row.completion_tokens))
        assert row.cost > 0
        assert len(other.rows()) == 1
    other.ledger.close()


@pytest.mark.parametrize(
    ("reply", "taken"),
    [(fault(429, {"retry-after": "60"}), False), (fault(503), False), (Reply(pause=30.0), True), (fault(400, code="content_filter"), True)],
)
def test_the_release_before_answers_where_the_server_does_not(
    house: House, reply: Reply, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(Reply(), reply) as server:
        made = endpoint(url=server.url, private=True, timeout_s=0.3)
        former = house.release(1)
        house.point("routing", former)
        with gateway(house, monkeypatch, "key") as served:
            moved_to(house, served, hosted_release(house, made, MODEL))
            answer = ask(served)
            assert answer.status_code == 200
            assert answer.headers["x-tailorbird-release"] == former
            assert answer.json()["choices"][0]["message"]["content"] == LABELS[0]
            streamed = ask(served, stream=True)
            assert streamed.headers["x-tailorbird-release"] == former
            assert LABELS[0] in streamed.text
        stood_in = [row for row in house.rows() if row.arm == "fallback"]
        assert [(row.release, row.outcome, row.endpoint) for row in stood_in] == [(former, "ok", "outside")] * 2
        assert all((row.paid > 0) == taken and row.cost > row.paid for row in stood_in), "what the server took is paid, by a row of another"
        with house.ledger.work("acme", write=False) as work:
            paid = work.usage.paid("outside", house.clock.now() - timedelta(days=31))
        assert paid == pytest.approx(sum(row.paid for row in house.rows()))


@pytest.mark.parametrize("stream", [False, True])
def test_without_a_release_before_it_a_caller_is_told_when_to_ask_again(
    house: House, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scripted(Reply(pause=30.0)) as server:
        made = endpoint(url=server.url, private=True, timeout_s=0.2)
        house.point("routing", hosted_release(house, made, MODEL))
        with gateway(house, monkeypatch, "key") as served:
            wait_until(lambda: ask(served).json()["error"]["code"] == "endpoint_not_asked")
            asked, answer = len(server.asked), ask(served, stream=stream)
            told = httpx.get(served.url + "/metrics", headers=served.headers, timeout=20).text
        assert len(server.asked) == asked == 3
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "endpoint_not_asked")
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert "tailorbird_endpoints_silent 1.0" in told
    assert "tailorbird_endpoint_requests_not_sent 2.0" in told


def test_an_endpoint_that_is_taken_back_is_asked_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted() as server:
        former = house.release(1)
        house.point("routing", former)
        with gateway(house, monkeypatch, "key") as served:
            moved_to(house, served, hosted_release(house, endpoint(url=server.url, private=True), MODEL))
            with house.ledger.system() as system:
                tenant = system.tenants.get("acme")
                system.tenants.replace(tenant.model_copy(update={"policy": TrafficPolicy()}))
            wait_until(lambda: ask(served).headers.get("x-tailorbird-release") == former)
            asked = len(server.asked)
            ask(served)
            assert len(server.asked) == asked


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_leaves_is_charged_for_what_was_asked(house: House, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(Reply(), Reply(pause=5.0)) as server:
        made = endpoint(url=server.url, private=True)
        with gateway(house, monkeypatch, "key") as served:
            moved_to(house, served, hosted_release(house, made, MODEL, TaskKind.GENERATE))
            with pytest.raises(httpx.TimeoutException):
                httpx.post(served.url + CHAT, json=ASK | {"stream": stream}, headers=served.headers, timeout=0.5)
            wait_until(lambda: any(row.outcome == "aborted" for row in house.rows()))
            told = httpx.get(served.url + "/metrics", headers=served.headers, timeout=20).text
        row = next(row for row in house.rows() if row.outcome == "aborted")
    assert (row.status, row.endpoint, row.completion_tokens) == (499, "outside", 0)
    assert row.cost == row.paid > 0
    assert f'tailorbird_endpoint_money_total{{usage="estimated"}} {row.paid}' in told


def test_passages_are_found_here_of_what_its_asker_may_read(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine holds the index and no model; another asker's passages do not leave the house."""
    public, secret = "lost cards are blocked at once", "lost cards cost the board a million"
    (tmp_path / "index").mkdir()
    entries = [Entry(id="public", text=public, access=(EVERYONE,)), Entry(id="secret", text=secret, access=("board",))]
    write_index(tmp_path / "index", entries, None)
    spec = Retrieval(what="passages", ways=("words",), count=2, index=digest("index"))
    with scripted() as server:
        release = hosted_release(house, endpoint(url=server.url, private=True), MODEL, TaskKind.GENERATE, spec)
        house.lookups[release] = LocalRetrieval(spec=spec, index=str(tmp_path / "index"))
        plain, hosted = house.admit, HostedModel(endpoint="outside", url=server.url, model=MODEL, reported=MODEL)
        monkeypatch.setattr(house, "admit", lambda request: plain(request).model_copy(update={"hosted": hosted, "base": ""}))
        house.point("routing", release)
        _, board = house.key(groups=frozenset({"board"}))
        with gateway(house, monkeypatch, "key") as served:
            wait_until(lambda: ask(served).headers.get("x-tailorbird-release") == release)
            body = ASK | {"messages": [{"role": "user", "content": "my cards are lost"}]}
            told = [
                httpx.post(served.url + CHAT, json=body, headers={"authorization": f"Bearer {key}"}, timeout=20).json()
                for key in (served.secret, board)
            ]
    mine, theirs = (json.dumps(asked["messages"]) for asked in server.asked[-2:])
    assert (public in mine, secret in mine) == (True, False)
    assert (public in theirs, secret in theirs) == (True, True)
    assert [{one["id"] for one in each["tailorbird"]["passages"]} for each in told] == [{"public"}, {"public", "secret"}]
