"""Endpoints of tenants: registered by the host alone, anchored in the log, and seen by nobody else."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from support.hosted import allow, endpoint, hosting, register
from support.usecases import on_both_databases
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import Corrupt, Forbidden, InvalidInput, NotFound
from tailorbird.usecases import Dependencies
from tailorbird.usecases.endpoints import add_endpoint, list_endpoints, remove_endpoint, usable_endpoint
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.registry import perform, validated


@on_both_databases
def test_an_endpoint_is_registered_seen_and_taken_back(deps: Dependencies) -> None:
    deps = hosting(deps)
    register(deps)
    register(deps, endpoint(name="other", private=True, url="http://10.0.0.7:8000"))
    allow(deps, "outside")
    seen = list_endpoints(deps, act_as(deps, "acme", "viewer")).endpoints
    assert [(one.tenant, one.endpoint.name, one.allowed) for one in seen] == [("acme", "other", False), ("acme", "outside", True)]
    assert seen[1].endpoint == endpoint()
    register(deps, endpoint(timeout_s=5.0))
    assert usable_endpoint(deps, "acme", "outside").timeout_s == 5.0
    remove_endpoint(deps, act_as(deps, "house", "admin"), "outside", ("acme",))
    with pytest.raises(NotFound):
        usable_endpoint(deps, "acme", "outside")
    assert [one.endpoint.name for one in list_endpoints(deps, act_as(deps, "acme", "admin")).endpoints] == ["other"]


@pytest.mark.parametrize(
    "url",
    [
        "https://llm.example/\r\nx-admin: 1",
        "https://llm.example\\@127.0.0.1",
        "https://llm.example/../admin",
        "https://llm.example/%2e%2e/admin",
        "https://llm..example",
        "https://llm.example:99999",
        "https://llm.exаmple",
        "https://llm.example;x",
    ],
)
def test_an_address_is_read_in_one_way(deps: Dependencies, url: str) -> None:
    deps = hosting(deps)
    with pytest.raises(InvalidInput) as refused:
        add_endpoint(deps, act_as(deps, "house", "admin"), endpoint().model_copy(update={"url": url}), ("acme",))
    assert refused.value.error_code == "invalid_input"
    for good in ("https://llm.example/openai/eu-1", "https://LLM.example:8443", "https://[2606:4700::1]", "https://xn--llm.example"):
        register(deps, endpoint(url=good))


@pytest.mark.parametrize("url", ["http://llm.example", "https://user:pass@llm.example", "https://llm.example/?key=1", "https:///nothing"])
def test_what_is_no_endpoint(url: str) -> None:
    with pytest.raises(InvalidInput):
        validated(Endpoint, endpoint().model_dump() | {"url": url})


def test_only_the_host_registers(deps: Dependencies) -> None:
    deps = hosting(deps)
    for role, code in (("admin", "not_host"), ("author", "role_missing")):
        with pytest.raises(Forbidden) as refused:
            perform(deps, act_as(deps, "acme", role), add_endpoint, endpoint=endpoint(), tenants=("acme",))
        assert refused.value.error_code == code
    with pytest.raises(NotFound):
        add_endpoint(deps, act_as(deps, "house", "admin"), endpoint(), ("acme", "nobody"))
    assert list_endpoints(deps, act_as(deps, "house", "admin")).endpoints == ()


def test_a_tenant_sees_its_own_alone(deps: Dependencies) -> None:
    deps = hosting(deps)
    register(deps, tenant="house")
    assert list_endpoints(deps, act_as(deps, "acme", "admin")).endpoints == ()
    with pytest.raises(NotFound) as refused:
        usable_endpoint(deps, "acme", "outside")
    assert refused.value.error_code == "endpoint_missing"
    assert len(list_endpoints(deps, act_as(deps, "house", "viewer")).endpoints) == 1


@pytest.mark.parametrize("deps", ["sqlite"], indirect=True)
def test_a_row_that_was_changed_by_sql_is_asked_nothing(deps: Dependencies) -> None:
    deps = hosting(deps)
    register(deps)
    allow(deps, "outside")
    with create_engine(f"sqlite:///{deps.workspace / 'tailorbird.db'}").begin() as connection:
        connection.execute(text("UPDATE tenants SET endpoints = replace(endpoints, 'llm.example', 'llm.attacker')"))
    with pytest.raises(Corrupt) as refused:
        usable_endpoint(deps, "acme", "outside")
    assert refused.value.error_code == "row_changed"


def test_it_is_in_the_log_without_its_key(deps: Dependencies) -> None:
    deps = hosting(deps)
    register(deps)
    allow(deps, "outside")
    with deps.ledger.work("acme", write=False) as work:
        told = {entry.event.kind: entry.event for entry in work.events.entries()}
    assert told["endpoint.added"].data == {
        "name": "outside",
        "url": "https://llm.example",
        "region": "EU (Example Ltd)",
        "private": False,
    }
    assert told["endpoint.added"].actor == "house/admin"
    assert "tenant" in told["endpoint.added"].rows
    assert told["tenant.policy_set"].data["endpoints"] == "outside"
