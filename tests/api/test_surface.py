"""The rest of the surface: models, health, readiness, metrics, errors of the framework."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from support.api import ASK, CHAT, TEXT, ask, gateway
from support.serving import DirectDriver, House, digest
from tailorbird.domain.errors import Corrupt, Unavailable
from tailorbird.domain.objective import RiskTier
from tailorbird.domain.rollout import Rollout, RolloutPlan, RolloutState


def test_a_tenant_sees_its_own_live_names_alone(house: House) -> None:
    house.point("routing", house.release())
    house.point("billing", house.release())
    house.point("old", house.release())
    house.point("old")
    house.point("secret", house.release(tenant="globex"), tenant="globex")

    async def story(client: httpx.AsyncClient) -> list[Any]:
        listed = (await client.get("/v1/models")).json()
        shown = await client.get("/v1/models/acme/routing")
        encoded = await client.get("/v1/models/acme%2Frouting")
        foreign = await client.get("/v1/models/globex/secret")
        return [listed, shown.json(), encoded.json(), foreign]

    listed, shown, encoded, foreign = ask(house, story)
    assert listed["object"] == "list"
    assert [entry["id"] for entry in listed["data"]] == ["acme/billing", "acme/routing"]
    assert shown == encoded == listed["data"][1]
    assert shown["owned_by"] == "acme"
    assert foreign.status_code == 404
    assert foreign.json()["error"]["code"] == "model_not_found"


def test_readiness_tells_the_truth(house: House) -> None:
    driver = DirectDriver(house)
    driver.away = Unavailable("away", "wait")
    house.point("routing", release := house.release())

    async def run() -> list[tuple[int, Any]]:
        told = []
        async with gateway(house, driver, ready=False) as client:

            async def look() -> None:
                response = await client.get("/readyz")
                said = response.json()
                assert [warning["code"] for warning in said.pop("warnings")] == ["checkpoints_stay"]
                told.append((response.status_code, said))

            assert (await client.get("/healthz")).status_code == 200
            await asyncio.sleep(0.3)
            await look()
            driver.away, house.refusals[release] = None, Corrupt("x", "y")
            while not (await client.get("/readyz")).json()["engine"]:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            await look()
            del house.refusals[release]
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
            await look()
        return told

    starting, refused, ready = asyncio.run(run())
    assert starting == (503, {"ready": False, "ledger": True, "engine": False, "aliases": {"live": 0, "behind": 1}})
    assert refused == (503, {"ready": False, "ledger": True, "engine": True, "aliases": {"live": 0, "behind": 1}})
    assert ready == (200, {"ready": True, "ledger": True, "engine": True, "aliases": {"live": 1, "behind": 0}})


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


def beginning(house: House, alias: str) -> Rollout:
    now = house.clock.now()
    named = {
        "id": digest(alias)[7:19],
        "tenant": "acme",
        "alias": alias,
        "candidate": digest("new"),
        "incumbent": digest("old"),
        "salt": "s",
    }
    at = {"step_since": now, "started_at": now, "changed_at": now, "started_by": "olga"}
    return Rollout.model_validate(named | at | {"risk": RiskTier.LIMITED, "plan": RolloutPlan(), "versions": (1,)})


def test_metrics_tell_where_rollouts_stand(house: House) -> None:
    rollouts = [beginning(house, name) for name in ("routing", "sorting")]

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


def test_errors_of_the_framework_take_the_same_shape(house: House) -> None:
    async def story(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get("/v1/nothing"), await client.get(CHAT), await client.delete("/v1/models")]

    missing, wrong, deleted = ask(house, story)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_such_route")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert deleted.status_code == 405
    assert all(response.headers["x-tailorbird-request-id"] for response in (missing, wrong, deleted))


def test_the_surface_describes_itself(house: House) -> None:
    described = ask(house, lambda client: client.get("/openapi.json")).json()
    control = {path for path in described["paths"] if path.startswith("/api/")}
    assert {"/api/sessions", "/api/runs", "/api/releases"} <= control
    assert set(described["paths"]) - control == {
        CHAT,
        TEXT,
        "/v1/models",
        "/v1/models/{model}",
        "/v1/rerank",
        "/v1/responses",
        "/v1/embeddings",
        "/healthz",
        "/readyz",
    }
    schema = described["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"model", "messages"} <= set(schema["properties"])
