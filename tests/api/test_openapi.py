"""The reference of the API: a page that needs nothing from elsewhere and has a sentence for every operation."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import httpx
import pytest

from support.api import CHAT, ask
from support.serving import House
from support.workspace_ledger import FAST, close_workspace


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The description of the whole surface, which is the same for every record."""
    folder = tmp_path_factory.mktemp("described")
    house = House(folder, ledger_kind=FAST)
    found: dict[str, Any] = ask(house, lambda client: client.get("/openapi.json")).json()
    close_workspace(folder, house.ledger)
    return found


def page(house: House) -> httpx.Response:
    return ask(house, lambda client: client.get("/docs", headers={"authorization": ""}))


def test_every_operation_has_a_sentence(described: dict[str, Any]) -> None:
    without = [
        f"{method} {path}"
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if not re.search(r"\w.*\.$", operation.get("description", ""), flags=re.S) or not operation.get("summary")
    ]
    assert without == []


def test_the_page_shows_every_operation_with_what_it_takes(house: House, described: dict[str, Any]) -> None:
    shown = page(house).text
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert f'<span class="method">{method.upper()}</span> {path}</code>' in shown
            assert f'id="{operation["operationId"]}"' in shown
    for word in ("chat.complete", "documents", "top_n", "Allowed for:", "Needs: API key"):
        assert word in shown


def test_the_page_needs_nothing_from_elsewhere_and_lets_nothing_in(house: House) -> None:
    answer = page(house)
    assert answer.status_code == 200
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|(?:src|href|action)=.https?:", answer.text)
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, flags=re.S)
    named = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{named}'" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]


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
