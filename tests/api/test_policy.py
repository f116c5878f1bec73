"""Every route below ``/api`` has a line in the policy, does what the line says for every role, and keeps tenants apart."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, APIRouter

import support.ledger_samples as sample
from support.control import OBJECTIVE, ROWS, act, code, control_app, open_office, session, upload, whole_app
from support.release import manifest as a_manifest
from support.serving import House, make_release
from tailorbird import auth
from tailorbird.api.authentication import LOG_OUT, OWN, PUBLIC, UPLOAD
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.erasure import Erasure
from tailorbird.domain.identity import Role
from tailorbird.domain.objective import TaskKind
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import add_identity, confirm, initialise
from tailorbird.usecases.registry import AnyUseCase, use_cases
from tailorbird.usecases.runs.submit import Submission, submit_uploaded

EVERYBODY = "everybody"
NEWCOMER = {"name": "boss", "roles": ["admin"]}
#: Operations of the host, which stand above tenants; ``tests/usecases/test_tenants.py`` has them, and
#: ``tests/usecases/test_endpoints.py``.
ABOVE = {"tenant.list", "tenant.add", "tenant.limit", "tenant.places", "tenant.suspend", "tenant.remove"} | {
    "endpoint.add",
    "endpoint.list",
    "endpoint.remove",
}


@dataclass(frozen=True)
class Things:
    """One object of every kind that an operation can name."""

    run: str = "0" * 12
    release: str = "sha256:" + "0" * 64
    alias: str = "nothing"
    key: str = "0" * 12
    identity: str = "nobody"
    request: str = "req_nothing"
    tenant: str = "nowhere"
    snapshot: str = "0" * 64
    erasure: str = "0" * 12

    def names(self) -> tuple[str, ...]:
        return (self.run, self.release, self.alias, self.key, self.identity, self.request, self.snapshot, self.erasure)


def asked(operation: AnyUseCase, deps: Dependencies, things: Things) -> dict[str, Any]:
    """A well-formed request of ``operation`` about ``things``; an operation that is new needs its line here."""
    public_key = auth.create_key(deps.workspace / "new" / f"{len(list((deps.workspace / 'new').glob('*')))}.key")
    stated = {
        "release": things.release,
        "dossier": things.release,
        "identity": EVERYBODY,
        "role": "approver",
        "decision": "approve",
        "reason": "",
    }
    signature = act(deps, "author", "globex").sign("approve", digest_of(stated))
    run, release, name, key = {"run": things.run}, {"digest": things.release}, {"name": things.identity}, {"id": things.key}
    snapshot, erasure = {"snapshot": things.snapshot}, {"erasure": things.erasure}
    requests: dict[str, dict[str, Any]] = {
        "data.list": {},
        "data.show": snapshot,
        "data.diff": snapshot | {"other": things.snapshot},
        "data.prove": snapshot | {"text": "hello", "target": "a"},
        "data.suspects": snapshot,
        "data.fix": snapshot | {"fixes": [{"row": "sha256:" + "0" * 64, "action": "keep"}]},
        "data.inspect": {"name": "rows.csv", "file": upload(deps, ROWS)},
        "data.erase": {"subject": "somebody"},
        "data.erasures": {},
        "data.certificate": erasure,
        "data.certify": erasure | {"certificate": stated["release"], "signature": plain_json(signature)},
        "run.submit": {"objective": OBJECTIVE, "files": {"rows.csv": upload(deps, ROWS)}},
        "run.list": {},
        "run.show": run,
        "run.evidence": run,
        "candidate.compare": {"one": things.run, "other": things.run},
        "label_review.show": release,
        "label_review.next": release,
        "label_review.judge": release | {"number": 1, "mark": "left"},
        "objective.list": {},
        "run.status": run,
        "run.cancel": run,
        "run.allow": run | {"rung": "full"},
        "release.list": {},
        "release.show": release,
        "release.card": release,
        "release.quorum": release,
        "release.statement": release | {"decision": "approve"},
        "release.decide": release | {"statement": stated, "signature": plain_json(signature)},
        "release.stage": release,
        "release.promote": release,
        "alias.list": {},
        "alias.rollback": {"alias": things.alias},
        "session.show": {},
        "identity.list": {},
        "identity.add": {
            "name": f"new-{public_key[:8].lower().replace('/', 'x').replace('+', 'y')}",
            "roles": ["viewer"],
            "public_key": public_key,
        },
        "identity.confirm": name,
        "identity.disable": name,
        "identity.rotate": {
            "rotation": {"tenant": "globex", "identity": "author", "public_key": public_key, "leaked": True},
            "present": plain_json(signature),
            "proof": plain_json(signature),
        },
        "key.list": {},
        "key.create": {"name": "robot"},
        "key.limit": key | {"limits": {"requests_per_minute": 5}},
        "key.revoke": key,
        "key.rotate": key,
        "tenant.list": {},
        "tenant.add": {
            "name": f"new-{public_key[:8].lower().replace('/', 'x').replace('+', 'y')}",
            "people": [NEWCOMER | {"public_key": public_key}],
        },
        "tenant.limit": {"name": things.tenant, "limits": {"requests_per_minute": 10**6}},
        "tenant.places": {"name": things.tenant, "places": [{"prefix": "s3://acme", "credential": "worker"}]},
        "tenant.suspend": {"name": things.tenant},
        "endpoint.list": {},
        "endpoint.add": {"endpoint": {"name": "outside", "url": "https://llm.example", "region": "nowhere"}, "tenants": [things.tenant]},
        "endpoint.remove": {"name": "outside", "tenants": [things.tenant]},
        "tenant.remove": {"name": things.tenant},
        "tenant.policy": {"review_share": 0.1},
        "release.drill": release,
        "release.live": release,
        "rollout.start": release,
        "rollout.list": {},
        "rollout.show": {"rollout": "0" * 12},
        "rollout.decide": {"rollout": "0" * 12, "decision": "hold"},
        "feedback.give": {"request": things.request, "kind": "thumb", "value": "up"},
        "review.list": {},
        "review.settle": {"request": things.request, "label": "refund"},
        "request.explain": {"request": things.request},
        "traffic.show": {},
        "traffic.watch": {},
        "signal.list": {"objective": "desk"},
        "audit.log": {"subject": things.release},
        "audit.verify": {},
        "audit.checkpoint": {},
        "audit.settle": {"reason": "a drill"},
        "audit.inclusion": {"index": 0},
        "audit.consistency": {"first": 1},
        "model.list": {},
    }
    return requests[operation.name]


async def send(client: httpx.AsyncClient, operation: AnyUseCase, fields: dict[str, Any], secret: str | None) -> httpx.Response:
    path = operation.path.format(**fields)
    others = {name: value for name, value in fields.items() if f"{{{name}}}" not in operation.path}
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    sent = {"params": others} if operation.method == "GET" else {"json": others}
    return await client.request(operation.method, path, headers=headers, **sent)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Office:
    deps: Dependencies
    app: FastAPI
    secrets: dict[str, str]
    foreign: Things

    def ask(self, story: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
                return await story(client)

        return asyncio.run(run())


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, furnished_office: Path) -> Iterator[Office]:
    deps = open_office(shutil.copytree(furnished_office, tmp_path_factory.mktemp("policy") / "office"))
    callers = {EVERYBODY: frozenset(Role)} | {f"caller-{role}": frozenset({role}) for role in Role}
    initialise(deps, "acme", callers)
    confirm(deps, act(deps, EVERYBODY), f"caller-{Role.ADMIN}")
    secrets = {who.removeprefix("caller-"): session(deps, who) for who in callers}
    yield Office(deps, control_app(deps), secrets, furnish_globex(deps))
    deps.ledger.close()


def furnish_globex(deps: Dependencies) -> Things:
    """One object of every kind, all of globex."""
    now = deps.clock.now()
    author = act(deps, "author", "globex")
    files = {"rows.csv": upload(deps, ROWS, "globex")}
    run = submit_uploaded(deps, author, Submission(objective=OBJECTIVE.replace("acme", "globex"), files=files))
    release = make_release("globex", 1, TaskKind.CLASSIFY, now)
    alias = Alias(tenant="globex", name="hidden", targets=(AliasTarget(release=release.digest),), moved_at=now, moved_by="operator")
    key, _ = auth.issue_api_key("globex", "hidden-robot", now)
    hidden_row = {"id": "req_hidden", "key": key.id, "alias": alias.path, "release": release.digest, "at": now}
    row = sample.request("globex").model_copy(update=hidden_row)
    nothing = deps.artifacts.put(b"")
    manifest = a_manifest().model_copy(update={"tenant": "globex", "objective": "hidden-desk", "rows": nothing, "quarantine": nothing})
    erasure = Erasure(id="abcdef012345", tenant="globex", subject="subject:hidden", by="admin", at=now)
    with deps.ledger.work("globex") as work:
        snapshot = work.records.put(manifest).removeprefix("sha256:")
        work.erasures.add(erasure)
        work.releases.add(release)
        work.aliases.put(alias)
        work.keys.add(key)
        work.requests.add([row])
    hidden = auth.create_key(deps.workspace / "hidden.key")
    add_identity(deps, act(deps, "admin", "globex"), "hidden-person", frozenset({Role.VIEWER}), hidden)
    return Things(run.id, release.digest, alias.name, key.id, "hidden-person", row.id, snapshot=snapshot, erasure=erasure.id)


def every_route(routes: Sequence[Any]) -> Iterator[Any]:
    """Routes, those of included routers and mounted applications among them."""
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if isinstance(route, APIRoute) or not hasattr(inner, "routes"):
            yield route
        else:
            yield from every_route(inner.routes)


def places(app: FastAPI) -> set[tuple[str, str]]:
    found = {(method, route.path) for route in every_route(app.routes) for method in getattr(route, "methods", None) or {"ANY"}}
    return {place for place in found if place[1].startswith("/api")}


def test_every_route_below_api_has_a_line_in_the_policy(office: Office) -> None:
    house = House.reopen(office.deps.workspace)
    generated = {(operation.method, operation.path): operation.action for operation in use_cases()}
    assert len(generated) == len(use_cases())
    assert places(whole_app(office.deps, house)) == set(generated) | PUBLIC | set(OWN)
    assert {*generated.values(), *OWN.values()} <= set(auth.ROLES_FOR)
    assert not PUBLIC & (set(generated) | set(OWN))
    house.ledger.close()


def test_a_route_without_a_line_would_be_found() -> None:
    app, inner = FastAPI(), APIRouter()
    inner.add_api_route("/api/back-door", lambda: None, methods=["GET"], include_in_schema=False)
    middle = APIRouter()
    middle.include_router(inner)
    app.include_router(middle)
    assert places(app) == {("GET", "/api/back-door")}


@pytest.mark.parametrize("operation", use_cases(), ids=lambda operation: operation.name)
def test_an_operation_is_done_for_the_roles_of_its_line_alone(office: Office, operation: AnyUseCase) -> None:
    async def story(client: httpx.AsyncClient) -> tuple[httpx.Response, dict[Role, httpx.Response]]:
        unknown = await send(client, operation, asked(operation, office.deps, Things()), None)
        answers = {role: await send(client, operation, asked(operation, office.deps, Things()), office.secrets[role]) for role in Role}
        return unknown, answers

    unknown, answers = office.ask(story)
    assert code(unknown) == (401, "unauthenticated")
    for role, answer in answers.items():
        if role in auth.ROLES_FOR[operation.action]:
            assert answer.status_code in (200, 404, 409), (role, answer.text)
        else:
            assert code(answer) == (403, "role_missing"), role


@pytest.mark.parametrize("place", sorted(OWN), ids=lambda place: place[1])
def test_other_routes_ask_for_a_session_and_a_role_too(office: Office, place: tuple[str, str]) -> None:
    async def story(client: httpx.AsyncClient) -> tuple[httpx.Response, dict[Role, httpx.Response]]:
        async def call(secret: str | None) -> httpx.Response:
            headers = {"content-type": "application/octet-stream"} | ({"authorization": f"Bearer {secret}"} if secret else {})
            return await client.request(*place, headers=headers)

        return await call(None), {role: await call(session(office.deps, role.value)) for role in Role}

    unknown, answers = office.ask(story)
    assert code(unknown) == (401, "unauthenticated")
    allowed = {role for role, answer in answers.items() if answer.status_code < 300}
    assert allowed == auth.ROLES_FOR[OWN[place]]
    assert {code(answer) for role, answer in answers.items() if role not in allowed} <= {(403, "role_missing")}


@pytest.mark.parametrize("operation", [o for o in use_cases() if o.name not in ABOVE], ids=lambda operation: operation.name)
def test_nothing_of_another_tenant_is_seen_or_moved(office: Office, operation: AnyUseCase) -> None:
    """Somebody of acme with every role asks for what globex has: as if it did not exist."""
    secret = office.secrets[EVERYBODY]
    hidden, missing = (asked(operation, office.deps, things) for things in (office.foreign, Things()))

    async def story(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await send(client, operation, fields, secret) for fields in (hidden, missing)]

    foreign, nothing = office.ask(story)
    if foreign.status_code == 200:
        assert not any(name in foreign.text for name in office.foreign.names())
        assert '"globex"' not in foreign.text
    else:
        assert code(foreign) == code(nothing)
        assert foreign.status_code in (404, 409)


def test_globex_itself_sees_all_of_it(office: Office) -> None:
    """So that the test above fails when the objects are not there."""
    initialise(office.deps, "globex", {EVERYBODY: frozenset(Role)})
    secret = session(office.deps, EVERYBODY, "globex")
    listing = ("run.list", "release.list", "alias.list", "key.list", "identity.list", "traffic.show", "data.list", "data.erasures")

    async def story(client: httpx.AsyncClient) -> str:
        asked_for = [operation for operation in use_cases() if operation.name in listing]
        return "".join([(await send(client, operation, {}, secret)).text for operation in asked_for])

    seen = office.ask(story)
    assert all(name in seen for name in office.foreign.names())


def test_the_explicit_places_are_the_ones_that_are_served(office: Office) -> None:
    assert {LOG_OUT, UPLOAD} == set(OWN)
