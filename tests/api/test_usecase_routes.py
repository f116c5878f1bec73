"""The control plane over HTTP: what is asked reaches the operation, what comes back is its answer, and faults say what is wrong."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.control import OBJECTIVE, ROWS, ask, code, control_app, people
from tailorbird.api.http import refuse_unstorable
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.run import Run
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import IdentityList, KeySecret
from tailorbird.usecases.registry import use_cases
from tailorbird.usecases.runs.queries import RunPage
from tailorbird.usecases.storage_quota import uploads_folder


def test_an_answer_is_the_operations_value(deps: Dependencies) -> None:
    answered = ask(deps, lambda client: client.get("/api/identities"), "viewer")
    assert answered.status_code == 200
    assert answered.headers["content-type"] == "application/json"
    assert answered.headers["cache-control"] == "no-store"
    assert IdentityList.model_validate_json(answered.content).identities == people(deps)


def test_what_is_in_the_body_is_done(deps: Dependencies) -> None:
    async def story(client: httpx.AsyncClient) -> list[httpx.Response]:
        made = await client.post("/api/keys", json={"name": "robot", "days": 3})
        key = made.json()["key"]["id"]
        rotated = await client.post(f"/api/keys/{key}/rotate", json={"grace_hours": 1})
        revoked = await client.post(f"/api/keys/{key}/revoke")
        return [made, rotated, revoked, await client.get("/api/keys")]

    made, rotated, revoked, listed = ask(deps, story, "admin")
    told = KeySecret.model_validate_json(made.content)
    assert told.key.secret_sha256 == ""
    assert (told.key.expires_at - told.key.created_at).days == 3  # type: ignore[operator]
    assert rotated.json()["secret"] != told.secret
    assert revoked.json()["revoked_at"] is not None
    assert len(listed.json()["keys"]) == 2


def test_an_objective_is_uploaded_submitted_and_found(deps: Dependencies) -> None:
    """The data first, then the text that names them; the same once more is the same run."""

    async def story(client: httpx.AsyncClient) -> list[httpx.Response]:
        stored = await client.post("/api/artifacts", content=ROWS, headers={"content-type": "application/octet-stream"})
        asked = {"objective": OBJECTIVE, "files": {"rows.csv": stored.json()["digest"]}}
        first = await client.post("/api/runs", json=asked)
        again = await client.post("/api/runs", json=asked)
        return [stored, first, again, await client.get("/api/runs?limit=1"), await client.get(f"/api/runs/{first.json()['id'][:5]}")]

    stored, first, again, listed, shown = ask(deps, story, "author")
    assert stored.json() == {"digest": digest_bytes(ROWS), "bytes": len(ROWS)}
    assert first.json() == again.json()
    assert RunPage.model_validate_json(listed.content).runs == (Run.model_validate_json(first.content),)
    assert shown.json()["run"] == first.json()
    assert list(uploads_folder(deps, "acme").iterdir()) == []


def test_a_fault_of_the_objective_names_its_line(deps: Dependencies) -> None:
    refused = ask(deps, lambda client: client.post("/api/runs", json={"objective": "name: desk\nnmae: x\n"}), "author")
    assert refused.status_code == 400
    assert refused.json()["error"]["line"] >= 1
    assert code(refused)


@pytest.mark.parametrize(
    ("path", "param", "wrong"),
    [
        ("/api/runs?limit=0", "limit", "invalid_value"),
        ("/api/runs?limit=99999999999999999999999", "limit", "invalid_value"),
        ("/api/runs?limt=5", "limt", "unknown_parameter"),
        ("/api/runs/a%00b", "run", "invalid_value"),
        ("/api/releases/XYZ", "digest", "invalid_value"),
        ("/api/audit/inclusion", "index", "missing_parameter"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(deps: Dependencies, path: str, param: str, wrong: str) -> None:
    refused = ask(deps, lambda client: client.get(path), "viewer")
    assert code(refused) == (400, wrong)
    assert refused.json()["error"]["param"] == param
    assert "xxxx" not in refused.text
    assert "XYZ" not in refused.text


@pytest.mark.parametrize(
    ("path", "body", "param", "wrong"),
    [
        ("/api/keys", "{", None, "invalid_json"),
        ("/api/keys", '{"name": NaN}', None, "invalid_json"),
        ("/api/keys", "{}", "name", "missing_parameter"),
        ("/api/keys", '{"name": "a\\u0000b"}', "name", "invalid_value"),
        ("/api/keys", '{"name": "robot", "days": "3"}', "days", "invalid_value"),
        ("/api/keys", '{"name": "robot", "dyas": 3}', "dyas", "unknown_parameter"),
        ("/api/keys?name=robot", "{}", "name", "unknown_parameter"),
        ("/api/keys/000000000000/rotate", '{"id": "111111111111"}', "id", "unknown_parameter"),
    ],
)
def test_a_body_that_is_wrong_says_where(deps: Dependencies, path: str, body: str, param: str | None, wrong: str) -> None:
    refused = ask(deps, lambda client: client.post(path, content=body, headers={"content-type": "application/json"}), "admin")
    assert code(refused) == (400, wrong)
    assert refused.json()["error"]["param"] == param


def test_a_body_over_the_limit_is_not_read(deps: Dependencies) -> None:
    async def story(client: httpx.AsyncClient) -> list[tuple[int, str]]:
        headers = {"content-type": "application/json"}
        too_large = await client.post("/api/runs", content=b" " * (2**22 + 1), headers=headers)
        login = await client.post("/api/sessions", content=b" " * 20_000, headers=headers)
        return [code(too_large), code(login)]

    assert ask(deps, story, "author") == [(413, "too_large")] * 2


def test_the_session_is_asked_for_before_anything_is_read(deps: Dependencies) -> None:
    async def story(client: httpx.AsyncClient) -> list[tuple[int, str]]:
        return [code(await client.post("/api/runs", content=b"{" * 2**23)), code(await client.get("/api/runs?limit=many"))]

    assert ask(deps, story) == [(401, "unauthenticated")] * 2


def test_routes_and_methods_that_are_not_there(deps: Dependencies) -> None:
    async def story(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await client.get("/api/nothing"),
            await client.get("/api/runs/"),
            await client.request("PUT", "/api/runs"),
            await client.head("/api/runs"),
            await client.request("OPTIONS", "/api/runs"),
            await client.request("TRACE", "/api/runs"),
        ]

    missing, slash, *others = ask(deps, story, "viewer")
    assert code(missing) == code(slash) == (404, "no_such_route")
    assert [response.status_code for response in others] == [405] * 4
    assert {response.headers["allow"] for response in others} == {"GET, POST"}
    assert code(others[0]) == (405, "method_not_allowed")


def test_a_defect_keeps_its_words(deps: Dependencies, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("secret words")

    monkeypatch.setattr("tailorbird.api.control.perform_request", break_down)
    answered = ask(deps, lambda client: client.get("/api/runs"), "viewer")
    assert code(answered) == (500, "internal")
    assert "secret" not in answered.text


def test_the_description_has_every_operation_with_its_own_words(deps: Dependencies) -> None:
    described = control_app(deps).openapi()
    for operation in use_cases():
        told = described["paths"][operation.path][operation.method.lower()]
        assert (told["operationId"], told["summary"]) == (operation.name, operation.summary)
        assert told["security"] == [{"session": []}]
        sent = {parameter["name"] for parameter in told["parameters"]} if "parameters" in told else set()
        if "requestBody" in told:
            sent |= set(told["requestBody"]["content"]["application/json"]["schema"]["properties"])
        assert sent == set(operation.request.model_fields)
        assert told["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith(f"/{operation.response.__name__}")
        assert {"400", "401", "403", "500", "503"} <= set(told["responses"])
        assert told["responses"]["403"]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorAnswer")
    assert described["components"]["securitySchemes"]["session"]["scheme"] == "bearer"
    assert "#/$defs" not in json.dumps(described)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_what_a_database_cannot_keep_is_found_wherever_it_stands(tree: Any) -> None:
    def kept(part: Any) -> bool:
        if isinstance(part, dict):
            return all(kept(key) and kept(value) for key, value in part.items())
        if isinstance(part, list):
            return all(map(kept, part))
        if isinstance(part, str):
            return "\0" not in part and part == part.encode("utf-8", "replace").decode()
        return not isinstance(part, int) or -(2**63) <= part < 2**63

    if kept(tree):
        refuse_unstorable({"a": tree})
    else:
        with pytest.raises(InvalidInput) as refused:
            refuse_unstorable({"a": tree})
        assert refused.value.error_code == "invalid_value"
