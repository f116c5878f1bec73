"""Errors of the framework take the shape of ours."""

from __future__ import annotations

import httpx

from support.api import CHAT, ask
from support.serving import House


def test_errors_of_the_framework_take_the_same_shape(house: House) -> None:
    async def story(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get("/v1/nothing"), await client.get(CHAT), await client.delete("/v1/models")]

    missing, wrong, deleted = ask(house, story)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "no_such_route")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert deleted.status_code == 405
    assert all(response.headers["x-tailorbird-request-id"] for response in (missing, wrong, deleted))
