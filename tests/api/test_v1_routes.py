"""``/v1/models``: a tenant sees its own live names alone."""

from __future__ import annotations

from typing import Any

import httpx

from support.api import ask
from support.serving import House


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
