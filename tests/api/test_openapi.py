"""The description of the API has a sentence for every operation."""

from __future__ import annotations

import re
from typing import Any

import pytest

from support.api import CHAT, ask
from support.serving import House


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The description of the whole surface, which is the same for every record."""
    folder = tmp_path_factory.mktemp("described")
    house = House(folder)
    found: dict[str, Any] = ask(house, lambda client: client.get("/openapi.json")).json()
    house.ledger.close()
    return found


def test_every_operation_has_a_sentence(described: dict[str, Any]) -> None:
    without = [
        f"{method} {path}"
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if not re.search(r"\w.*\.$", operation.get("description", ""), flags=re.S) or not operation.get("summary")
    ]
    assert without == []


def test_the_root_leads_to_the_console(house: House) -> None:
    answer = ask(house, lambda client: client.get("/"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")


def test_the_surface_describes_itself(described: dict[str, Any]) -> None:
    control = {path for path in described["paths"] if path.startswith("/api/")}
    assert {"/api/sessions", "/api/runs", "/api/releases"} <= control
    assert set(described["paths"]) - control == {
        CHAT,
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
