"""Limits of one API key beside its tenant's: counted for that key alone, on every gateway, over restarts."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from support.serving import House, digest
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.identity import Amounts, ApiKey, KeyLimits, QuotaLimits
from tailorbird.serving.quotas import Quotas
from tailorbird.serving.request_log import usage_of

LIMITS = KeyLimits(requests_per_minute=2, tokens_per_day=100)


def key(house: House, limits: KeyLimits = LIMITS) -> ApiKey:
    return house.key()[0].model_copy(update={"limits": limits})


def row(house: House, number: int, of: ApiKey, used: Amounts) -> RequestRow:
    return RequestRow(
        id=f"req_{number}", tenant="acme", key=of.id, alias="acme/routing", release=digest(1), arm="a", route="/v1", status=200,
        outcome="ok", error=None, prediction=None, prompt_tokens=used.input_tokens, completion_tokens=used.output_tokens, latency_ms=1.0,
        at=house.clock.now(),
    )  # fmt: skip


async def refused(quotas: Quotas, house: House, of: ApiKey, most: Amounts) -> str:
    with pytest.raises(Exhausted) as caught:
        await quotas.reserve("acme", most, house.clock.now(), of)
    assert caught.value.retry_after is not None
    return caught.value.error_code


def test_a_key_is_limited_and_the_one_beside_it_is_not(house: House) -> None:
    quotas, limited, free, other = Quotas(house.ledger, house.clock), key(house), key(house, KeyLimits()), key(house)

    async def story() -> None:
        for _ in range(2):
            (await quotas.reserve("acme", Amounts(1), house.clock.now(), limited)).settle(Amounts(1))
        assert await refused(quotas, house, limited, Amounts(1)) == "key_quota_requests"
        for each in (free, free, free, other, other):
            (await quotas.reserve("acme", Amounts(1), house.clock.now(), each)).settle(Amounts(1))
        house.clock.advance(timedelta(minutes=1))
        await quotas.reserve("acme", Amounts(1), house.clock.now(), limited)

    asyncio.run(story())


def test_the_tenants_limits_go_on_to_hold_and_a_refusal_holds_nothing(house: House) -> None:
    with house.ledger.system() as system:
        system.tenants.replace(system.tenants.get("acme").model_copy(update={"limits": QuotaLimits(requests_per_minute=3)}))
    quotas, limited, free = Quotas(house.ledger, house.clock), key(house), key(house, KeyLimits())

    async def story() -> None:
        for _ in range(2):
            await quotas.reserve("acme", Amounts(1), house.clock.now(), limited)
        for _ in range(5):
            assert await refused(quotas, house, limited, Amounts(1)) == "key_quota_requests"
        await quotas.reserve("acme", Amounts(1), house.clock.now(), free)
        assert await refused(quotas, house, free, Amounts(1)) == "quota_requests"

    asyncio.run(story())


def test_other_gateways_and_earlier_lives_count(house: House) -> None:
    limited = key(house)

    async def story() -> None:
        first = Quotas(house.ledger, house.clock)
        for number in range(2):
            (await first.reserve("acme", Amounts(1, 30), house.clock.now(), limited)).settle(Amounts(1, 30))
            left = [row(house, number, limited, Amounts(1, 30))]
            with house.ledger.work("acme") as work:
                work.requests.add(left)
                work.usage.add(usage_of(left, first.gateway))
        second = Quotas(house.ledger, house.clock)
        assert await refused(second, house, limited, Amounts(1)) == "key_quota_requests"
        house.clock.advance(timedelta(minutes=1))
        await second.refresh()
        assert await refused(second, house, limited, Amounts(1, 41)) == "key_quota_tokens"
        await second.reserve("acme", Amounts(1, 40), house.clock.now(), limited)

    asyncio.run(story())
