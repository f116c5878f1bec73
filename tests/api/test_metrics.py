"""Prometheus metrics: what is counted, and that nobody is named."""

from __future__ import annotations

import httpx

import support.ledger_samples as sample
from support.api import ASK, CHAT, ask
from support.serving import House, digest
from tailorbird.domain.rollout import RolloutState


def test_metrics_count_without_naming_anyone(house: House) -> None:
    house.point("routing", house.release())

    async def story(client: httpx.AsyncClient) -> str:
        await client.post(CHAT, json=ASK)
        await client.post(CHAT, json=ASK | {"model": "acme/unknown-name"})
        await client.get("/no/such/path")
        return (await client.get("/metrics")).text

    text = ask(house, story)
    assert f'tailorbird_http_requests_total{{method="POST",route="{CHAT}",status="200"}} 1.0' in text
    assert f'tailorbird_http_requests_total{{method="POST",route="{CHAT}",status="404"}} 1.0' in text
    assert 'tailorbird_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'tailorbird_answers_total{outcome="ok"} 1.0' in text
    assert f'tailorbird_http_request_seconds_bucket{{le="+Inf",route="{CHAT}"}} 2.0' in text
    assert "tailorbird_aliases_live 1.0" in text
    for private in ("acme", "routing", "unknown-name", "lost", "such"):
        assert private not in text


def test_metrics_tell_where_rollouts_stand(house: House) -> None:
    rollouts = [sample.rollout("acme", name).model_copy(update={"id": digest(name)[7:19]}) for name in ("routing", "sorting")]

    async def story(client: httpx.AsyncClient) -> list[str]:
        before = (await client.get("/metrics")).text
        with house.ledger.work("acme") as work:
            for rollout in rollouts:
                work.rollouts.add(rollout)
            held = {"state": RolloutState.HELD, "revision": rollouts[1].revision + 1}
            work.rollouts.replace(rollouts[1].model_copy(update=held))
        return [before, (await client.get("/metrics")).text]

    before, after = ask(house, story)
    assert 'tailorbird_rollouts{state="running"} 0.0' in before
    for state, count in (("running", 1), ("held", 1), ("rolled_back", 0)):
        assert f'tailorbird_rollouts{{state="{state}"}} {count}.0' in after
    assert "sorting" not in after
