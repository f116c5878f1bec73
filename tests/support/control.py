"""The control plane over ASGI: a workspace with two tenants, people of every role, and clients that are logged in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

import httpx
import uvicorn
from fastapi import FastAPI

from support.doubles import FixedClock
from support.serving import DirectDriver, House
from support.usecases import open_workspace
from support.workspace_ledger import SQLITE
from tailorbird import api
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.identity import Identity
from tailorbird.domain.value import Digest
from tailorbird.processes.gateway import gateway_app
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.sessions import LoginEntry, log_in, open_session
from tailorbird.usecases.storage_quota import keep_upload

TENANTS = ("acme", "globex")
#: Where the control plane is asked.
HERE = "http://control"


class _Everywhere:
    """What a server is called whose port nobody knows before it listens. That a login is for one server is tested where it is told."""

    def __contains__(self, _server: object) -> bool:
        return True


EVERYWHERE = _Everywhere()

#: An objective and its data, as somebody would submit them.
ROWS = b"text,label\n" + b"".join(b"case %d about a %s,%s\n" % (n, label, label) for n in range(300) for label in (b"refund", b"login"))
OBJECTIVE = """
name: desk
tenant: acme
business: {goal: Route messages., owner: support, risk: limited}
task: {kind: classify, instruction: Classify the message.}
data:
  - path: rows.csv
    source: {origin: written for this test, license: Apache-2.0}
kpis:
  - {metric: accuracy, target: 0.8, because: as good as people}
"""


def open_office(folder: Path, ledger_kind: str = SQLITE) -> Dependencies:
    """The workspace in ``folder``, whose host is the first tenant."""
    return replace(open_workspace(folder, ledger_kind), host="acme")


def furnish_office(folder: Path, ledger_kind: str = SQLITE) -> None:
    """Makes the workspace; every role has one person in each tenant, called like the role."""
    deps = open_office(folder, ledger_kind)
    for tenant in TENANTS:
        initialise(deps, tenant, FIRST_PEOPLE)
    deps.ledger.close()


class NowClock(FixedClock):
    """The machine's clock, which a test may move on."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.moved

    def advance(self, by: timedelta) -> None:
        self.moved += by


def use_clock(deps: Dependencies, clock: NowClock) -> NowClock:
    """Gives the workspace and its ledger another clock: logins from outside carry the time of this machine."""
    object.__setattr__(deps, "clock", clock)
    deps.ledger._clock = clock  # type: ignore[attr-defined]
    return clock


def control_app(deps: Dependencies, largest_upload: int = 1 << 20) -> FastAPI:
    app = FastAPI()
    app.include_router(api.control_routes(LoginEntry(deps, EVERYWHERE), largest_upload))
    api.add_error_handlers(app)
    app.add_middleware(api.RequestObserver, metrics=api.Metrics())
    return app


def act(deps: Dependencies, who: str, tenant: str = "acme") -> Actor:
    return act_as(deps, tenant, who)


def session(deps: Dependencies, who: str, tenant: str = "acme") -> str:
    """The secret of a new session."""
    return open_session(deps, *log_in(act(deps, who, tenant), HERE, deps.clock.now()), {HERE})[1]


def upload(deps: Dependencies, data: bytes, tenant: str = "acme") -> Digest:
    """The digest of a file that the tenant's author uploaded."""
    folder = Path(mkdtemp(dir=deps.workspace))
    (folder / "file").write_bytes(data)
    return keep_upload(deps, act(deps, "author", tenant), folder).digest


def opening(actor: Actor, deps: Dependencies, server: str = HERE, **changes: Any) -> dict[str, Any]:
    """The body with which ``actor`` logs in."""
    login, signature = log_in(actor, server, deps.clock.now())
    return {"login": plain_json(login), "signature": plain_json(signature)} | changes


def ask(deps: Dependencies, story: Callable[[httpx.AsyncClient], Awaitable[Any]], who: str | None = None, tenant: str = "acme") -> Any:
    """Runs ``story`` with a client of the control plane, logged in as ``who``."""

    async def run() -> Any:
        transport = httpx.ASGITransport(control_app(deps), raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {session(deps, who, tenant)}"} if who else {}
        async with httpx.AsyncClient(transport=transport, base_url=HERE, headers=headers) as client:
            return await story(client)

    return asyncio.run(run())


def code(response: httpx.Response) -> tuple[int, str]:
    """Status and error code of a refusal, which must have the one shape."""
    error = response.json()["error"]
    assert {"message", "type", "param", "code", "hint"} <= set(error) <= {"message", "type", "param", "code", "hint", "line"}
    assert error["hint"]
    return response.status_code, error["code"]


def people(deps: Dependencies, tenant: str = "acme") -> tuple[Identity, ...]:
    with deps.ledger.work(tenant, write=False) as work:
        return work.identities.all()


def whole_app(deps: Dependencies, house: House) -> FastAPI:
    """The public application over ``deps``, with an engine in this process that loads what ``house`` admits."""
    return gateway_app(deps, [DirectDriver(house)], servers=EVERYWHERE)


@contextmanager
def served(
    app: FastAPI, key: Path | None = None, certificate: Path | None = None, *, lifespan: Literal["on", "off"] = "off"
) -> Iterator[str]:
    """The URL under which ``app`` is served on loopback, from a thread."""
    config = uvicorn.Config(app, port=0, log_config=None, lifespan=lifespan, ssl_keyfile=key, ssl_certfile=certificate)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
