"""Quotas, scopes, referred answers, mirrors and feedback over HTTP: what callers are told, and what the record says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from support.api import ASK, CHAT, ask, gateway
from support.serving import DirectDriver, House
from tailorbird import auth
from tailorbird.api.answers import most_used
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import SHADOW, RequestRow
from tailorbird.domain.evidence import ScopeRule, ScopeScorer
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.identity import Amounts, KeyLimits, QuotaLimits, Scope, window_start
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import REASONING_TOKENS, Message, PromptSpec, Sampling
from tailorbird.serving.alias_routes import TrafficArm

Client = httpx.AsyncClient


@pytest.fixture
def routing(house: House) -> str:
    """acme/routing answers by labels."""
    first = house.release()
    house.point("routing", first)
    return first


def change(house: House, **update: object) -> None:
    with house.ledger.system() as system:
        system.tenants.replace(system.tenants.get("acme").model_copy(update=update))


def used(house: House) -> Amounts:
    with house.ledger.work("acme", write=False) as work:
        return work.usage.used("month", window_start("month", house.clock.now()))


def test_over_a_limit_is_429_in_openais_shape_with_the_time_to_wait(house: House, routing: str) -> None:
    change(house, limits=QuotaLimits(requests_per_minute=2))

    async def story(client: Client) -> list[httpx.Response]:
        return [await client.post(CHAT, json=ASK) for _ in range(3)]

    first, second, third = ask(house, story)
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert (first.headers["x-ratelimit-remaining-requests"], second.headers["x-ratelimit-remaining-requests"]) == ("1", "0")
    error = third.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "quota_requests")
    assert 1 <= int(third.headers["retry-after"]) <= 60
    assert used(house).requests == 2
    assert sorted(row.status for row in house.rows()) == [200, 200, 429]


@pytest.mark.parametrize("stream", [False, True])
def test_usage_is_the_sum_of_the_rows_whole_or_streamed(house: House, stream: bool) -> None:
    house.point("writer", house.release(2, task=TaskKind.GENERATE))
    change(house, limits=QuotaLimits(output_tokens_per_month=40))
    body = {"model": "acme/writer", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 30, "stream": stream}

    async def story(client: Client) -> list[int]:
        return [(await client.post(CHAT, json=body)).status_code for _ in range(4)]

    assert ask(house, story) == [200, 200, 200, 429], "30 were reserved and 4 settled each time, until 30 do not fit any more"
    rows = [row for row in house.rows() if row.status == 200]
    assert used(house).output_tokens == sum(row.completion_tokens for row in rows) == 12
    assert used(house).input_tokens == sum(row.prompt_tokens for row in rows)
    assert used(house).money == pytest.approx(sum(row.cost for row in rows))


def test_a_suspended_tenant_is_refused(house: House, routing: str) -> None:
    change(house, suspended_at=house.clock.now())
    answer = ask(house, lambda client: client.post(CHAT, json=ASK))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tenant_suspended")


def key_with(house: House, *scopes: Scope) -> dict[str, str]:
    key, secret = auth.issue_api_key("acme", "robot", house.clock.now(), scopes=frozenset(scopes))
    with house.ledger.work("acme") as work:
        work.keys.add(key)
    return {"authorization": f"Bearer {secret}"}


def test_a_key_has_limits_of_its_own(house: House, routing: str) -> None:
    """Counted in the record, too, in the transaction of the row: another gateway goes by it."""
    key, secret = auth.issue_api_key("acme", "robot", house.clock.now())
    with house.ledger.work("acme") as work:
        work.keys.add(key)
        work.keys.limit(key.id, KeyLimits(requests_per_day=2))
    limited = {"authorization": f"Bearer {secret}"}

    async def story(client: Client) -> list[Any]:
        own = [await client.post(CHAT, json=ASK, headers=limited) for _ in range(3)]
        return [*own, await client.post(CHAT, json=ASK)]

    answers = ask(house, story)
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]
    assert answers[2].json()["error"]["code"] == "key_quota_requests"
    assert int(answers[2].headers["retry-after"]) > 60
    assert [answer.status_code for answer in ask(house, story)] == [429, 429, 429, 200], "another life of the gateway"


def test_a_key_does_what_its_scopes_say(house: House, routing: str) -> None:
    house.point("routing", house.release(5), stage="staging")
    says, asks, tries = (key_with(house, scope) for scope in (Scope.FEEDBACK, Scope.ANSWER, Scope.STAGING))
    both = key_with(house, Scope.ANSWER, Scope.STAGING)
    staged = ASK | {"model": "acme/routing@staging"}

    async def story(client: Client) -> list[tuple[int, str]]:
        answers = [
            await client.post(CHAT, json=ASK, headers=says),
            await client.get("/v1/models", headers=says),
            await client.post(CHAT, json=ASK, headers=asks),
            await client.post(CHAT, json=staged, headers=asks),
            await client.post(CHAT, json=staged, headers=tries),
            await client.post(CHAT, json=staged, headers=both),
            await client.post("/api/feedback", json={"request": "req_x", "kind": "thumb", "value": "up"}, headers=asks),
            await client.get("/api/session", headers=asks),
        ]
        return [(a.status_code, a.json().get("error", {}).get("code", "")) for a in answers]

    refused = (403, "scope_missing")
    assert ask(house, story) == [refused, refused, (200, ""), refused, refused, (200, ""), refused, (401, "session_malformed")]


def test_a_program_says_what_became_of_an_answer(house: House, routing: str) -> None:
    async def story(client: Client) -> list[httpx.Response]:
        made = await client.post(CHAT, json=ASK)
        said = {"request": made.json()["id"], "kind": "label", "value": "refund"}
        return [
            await client.post("/api/feedback", json=said),
            await client.post("/api/feedback", json=said | {"value": "lost_card"}),
            await client.post("/api/feedback", json=said | {"kind": "csat", "value": "6"}),
            await client.post("/api/feedback", json=said | {"value": "lost card"}),
            await client.post("/api/feedback", json=said | {"request": "req_nothing"}),
        ]

    wrong, right, off, unknown, nothing = ask(house, story)
    assert (wrong.json()["score"], right.json()["score"]) == (0.0, 1.0)
    assert off.status_code == 400
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "label_unknown")
    assert unknown.json()["error"]["hint"] == "give one of: lost_card, top_up, refund; or none, where none of them fits"
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, "not_found")
    with house.ledger.work("acme", write=False) as work:
        (kept,) = work.feedback.of(work.requests.latest(1)[0].id)
        (marks,) = work.feedback.marks(routing, house.clock.now())
    assert kept.value == "lost_card", "said again, it takes the place of what was said before"
    assert (marks.n, marks.mean) == (1, 1.0)


def unsure(house: House) -> str:
    """A release that refers whatever it is less than certain of."""
    return house.release(7, refer_below=0.99)


def handing_over(house: House) -> str:
    """A release whose every answer hands over."""
    return house.release(8, task=TaskKind.GENERATE, refer_pattern=r"\w")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("release", [unsure, handing_over])
def test_a_referred_answer_says_so_and_waits_for_people(house: House, stream: bool, release: Callable[[House], str]) -> None:
    house.point("routing", release(house))
    answer = ask(house, lambda client: client.post(CHAT, json=ASK | {"stream": stream}))
    # A generated answer that is streamed is not written when its headers go out: its last event tells.
    assert answer.headers.get("x-tailorbird-referred") == (None if stream and release is handing_over else "true")
    assert '"referred":true' in answer.text.replace(" ", "")
    (row,) = house.rows()
    assert row.referred
    with house.ledger.work("acme", write=False) as work:
        (item,) = work.reviews.waiting()
        assert (item.request, item.reason.value) == (row.id, "referred")
        assert work.contents.get(row.id) is None, "no policy, no words"


def refusing(house: House, refuse_below: float, scorer: ScopeScorer = ScopeScorer.MARGIN) -> str:
    """A release that refuses requests of so low a score: by margin those whose two likeliest labels lie near each other."""
    return house.release(9, scope=ScopeRule(scorer=scorer, refuse_below=refuse_below))


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_out_of_scope_gets_no_label_and_reaches_people(house: House, stream: bool) -> None:
    house.point("routing", refusing(house, 50.0))

    async def story(client: Client) -> tuple[httpx.Response, httpx.Response]:
        answer = await client.post(CHAT, json=ASK | {"stream": stream})
        return answer, await client.get("/metrics")

    answer, metrics = ask(house, story)
    assert (answer.status_code, answer.headers["x-tailorbird-referred"], answer.headers["x-tailorbird-out-of-scope"]) == (
        200,
        "true",
        "true",
    )
    told = answer.text.replace(" ", "")
    assert '"out_of_scope":true' in told
    assert '"probabilities":{' in told
    assert '"content":""' in told
    (row,) = house.rows()
    assert (row.outcome, row.prediction, row.confidence, row.referred, row.out_of_scope) == ("ok", None, None, True, True)
    assert not row.malformed
    assert 'tailorbird_answers_for_people_total{reason="out_of_scope"} 1.0' in metrics.text
    with house.ledger.work("acme", write=False) as work:
        (item,) = work.reviews.waiting()
    assert (item.request, item.reason.value) == (row.id, "referred")


@pytest.mark.parametrize("text", ["", "  ", "\n\n", "\u200b", "\u00a0\t\ufeff"])
def test_a_blank_request_is_out_of_scope_however_sure_the_release_is(house: House, text: str) -> None:
    house.point("routing", refusing(house, -50.0))

    async def story(client: Client) -> list[Any]:
        texts = [text, "?"]
        return [(await client.post(CHAT, json=ASK | {"messages": [{"role": "user", "content": each}]})).json() for each in texts]

    first, second = ask(house, story)
    assert (first["choices"][0]["message"]["content"], first["tailorbird"]["out_of_scope"]) == ("", True)
    assert second["choices"][0]["message"]["content"]
    assert "out_of_scope" not in second["tailorbird"]


def ask_redacting(house: House, redact: Callable[[str], str] | None, **body: object) -> None:
    """One request to a gateway that redacts the words it keeps; without ``redact`` it keeps none."""

    async def run() -> None:
        deps = house.deps
        object.__setattr__(deps, "redact", redact)
        house_parts, House.deps = House.deps, property(lambda _self: deps)  # type: ignore[assignment, method-assign]
        try:
            async with gateway(house, DirectDriver(house)) as client:
                client.headers.update(key_with(house, Scope.ANSWER))
                assert (await client.post(CHAT, json=ASK | body)).status_code == 200
        finally:
            House.deps = house_parts  # type: ignore[method-assign]

    asyncio.run(run())


def test_words_are_kept_redacted_and_only_where_the_policy_says_so(house: House, routing: str) -> None:
    change(house, policy=TrafficPolicy(store_content=True, retention_days=7, review_share=1.0))

    ask_redacting(house, None)
    ask_redacting(house, lambda text: text.replace("card", "[thing]"))
    with house.ledger.work("acme", write=False) as work:
        kept = [work.contents.get(row.id) for row in house.rows()]
        assert work.reviews.count() == 2
    (words,) = [content for content in kept if content]
    assert words.text == "I lost my [thing]"
    assert (words.expires_at - words.at).days == 7


def until_mirrored(house: House, body: Any, driver: DirectDriver) -> tuple[httpx.Response, RequestRow, RequestRow]:
    """A shadow is loaded after the release that answers: asked until a request was mirrored. The last answer, that request, its mirror."""

    async def story(client: Client) -> httpx.Response:
        while True:
            answer = await client.post(CHAT, json=body)
            await asyncio.sleep(0.05)
            if any(row.arm == SHADOW for row in house.rows()):
                return answer

    answer = ask(house, story, driver=driver)
    rows = {row.id: row for row in house.rows()}
    mirrored = next(row for row in rows.values() if row.arm == SHADOW)
    return answer, rows[mirrored.id.removesuffix("-shadow")], mirrored


def test_a_mirror_is_asked_the_same_and_nobody_is_told_or_charged(house: House, routing: str) -> None:
    shadow = house.release(9)
    with house.ledger.work("acme") as work:
        before = work.aliases.get("routing")
        work.aliases.put(before.model_copy(update={"version": 2, "mirror": shadow, "salt": "s"}))

    answer, given, mirrored = until_mirrored(house, ASK | {"user": "ada"}, DirectDriver(house))
    assert answer.headers["x-tailorbird-release"] == routing
    assert (mirrored.arm, mirrored.release, mirrored.agrees) == (SHADOW, shadow, True)
    assert (given.version, given.unit) == (2, mirrored.unit)
    assert given.unit not in ("", "ada")
    assert used(house).requests == sum(row.arm != SHADOW for row in house.rows())


def test_what_a_model_reasons_is_reserved_beside_its_answer() -> None:
    prompt, asked = PromptSpec(instruction=""), [Message(role="user", content="hi")]
    arms = [TrafficArm("a", digest_of("a"), TaskKind.GENERATE, prompt.model_copy(update={"thinking": on})) for on in (False, True)]
    plain, reasoning = (most_used(arm, asked, Sampling(max_tokens=5)).output_tokens for arm in arms)
    assert (plain, reasoning) == (5, 5 + REASONING_TOKENS)
