"""The whole surface under schemathesis: what its description says may be sent, what it says may not, and who may send it.

Every route is called by somebody who may do everything, with generated requests and with the names of things that exist. A finding is an
answer of status 5xx, one that the description lacks, one that is not as described, one to a request that the description forbids, or one
that needed no credential. The same seed sends the same requests.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.python import asgi
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from starlette.types import Receive, Scope, Send

import support.ledger_samples as sample
from support.control import act, opening, session, whole_app
from support.serving import House
from support.usecases import write_objective
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.identity import Role
from tailorbird.domain.objective import TaskKind
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import initialise
from tailorbird.usecases.releases.promotion import statement
from tailorbird.usecases.runs.submit import adapt

EVERYBODY = "everybody"
#: Somebody whom nobody needs.
SPARE = "spare"
#: Seconds that an answer may take: what is judged here is what it says, on a machine however busy.
PATIENCE = 900
#: The status of a body that is refused for its length.
TOO_LARGE = 413


@dataclass
class Findings:
    """How many requests were sent, how they were answered, and what was found wrong: a name, and the first such answer."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


class Surface:
    """The public application over a workspace in which there is something of everything."""

    def __init__(self, deps: Dependencies, house: House) -> None:
        self.deps = deps
        initialise(deps, "acme", {EVERYBODY: frozenset(Role), SPARE: frozenset({Role.VIEWER})})
        self.secret = session(deps, EVERYBODY)
        _, self.api_key = house.key()
        self.known = self._furnish(house)
        self._app, self._asked = whole_app(deps, house), count()
        self.schema = schemathesis.openapi.from_asgi("/openapi.json", self._answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As a server does, which goes on after a defect has been answered. Each request has an address of its own, since wrong keys from
        one address are throttled."""
        number = next(self._asked)
        scope["client"] = (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 1)
        with suppress(Exception):
            await self._app(scope, receive, send)

    def _furnish(self, house: House) -> dict[str, str]:
        """Path parameters, and the name of something of that kind."""
        ended = adapt(self.deps, act(self.deps, "author"), write_objective(self.deps.workspace / "job"), Progress())
        spare, _ = house.key()
        with self.deps.ledger.work("acme") as work:
            (made,) = work.releases.all()
            row = self._answered(made.digest, spare.id)
            work.requests.add([row])
        house.point("routing", house.release())
        house.point("writer", house.release(2, task=TaskKind.GENERATE))
        in_api = {"run": ended.run.id, "digest": made.digest, "alias": "desk", "id": spare.id, "name": SPARE, "request": row.id}
        return in_api | {"model": "acme/routing"}

    def _answered(self, release: str, key: str) -> RequestRow:
        answered = {"id": "req_1", "key": key, "alias": "acme/desk", "release": release, "at": self.deps.clock.now()}
        return sample.request("acme").model_copy(update=answered)

    def headers(self, path: str) -> dict[str, str]:
        """The credential that a path needs; logging out ends a session of its own."""
        if path.startswith("/v1"):
            return {"authorization": f"Bearer {self.api_key}"}
        return {"authorization": f"Bearer {session(self.deps, EVERYBODY) if path == '/api/sessions/current' else self.secret}"}

    def point_at_known(self, case: Case) -> None:
        """Puts names of things that exist into a request, and a decision that can be filed where one is asked for."""
        case.path_parameters = {name: self.known.get(name, value) for name, value in (case.path_parameters or {}).items()}
        if isinstance(case.body, dict) and "model" in case.body:
            case.body = case.body | {"model": "acme/writer" if "prompt" in case.body else "acme/routing"}
        if case.path == "/api/sessions":
            case.body = opening(act(self.deps, EVERYBODY), self.deps)
        if case.path == "/api/releases/{digest}/decisions":
            case.body = self._decision()

    def _decision(self) -> dict[str, Any]:
        """A signed approval while there is one to give; else the last one again."""
        actor = act(self.deps, "approver")
        stated = getattr(self, "_stated", None) or statement(self.deps, actor, self.known["digest"], "approve", "it is good")
        self._stated = stated
        return {"statement": plain_json(stated), "signature": plain_json(actor.sign("approve", digest_of(stated)))}

    def close(self) -> None:
        """Ends what the application does beside answering."""
        asgi.shutdown_lifespans()


def fuzz(surface: Surface, examples: int) -> Findings:
    """Calls every operation of the description: at the edges of what it allows, and beyond them; then ``examples`` times in each of three
    ways: right, right about things that exist, wrong."""
    findings, schema = Findings(), surface.schema
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        edges = schema.iter_coverage_cases(
            operation, generation_modes=list(GenerationMode), generation_config=schema.config.generation_for(operation=operation)
        )
        for case in edges:
            _judge(surface, case, findings)
        for mode, known in ((GenerationMode.POSITIVE, False), (GenerationMode.POSITIVE, True), (GenerationMode.NEGATIVE, False)):
            _generate(surface, operation, findings, examples, mode=mode, known=known)
    return findings


def _generate(surface: Surface, operation: APIOperation, findings: Findings, examples: int, *, mode: GenerationMode, known: bool) -> None:
    once = settings(derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])

    @settings(once, max_examples=examples)
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Case) -> None:
        if known:
            surface.point_at_known(case)
        _judge(surface, case, findings)

    with suppress(Unsatisfiable):  # nothing can be wrong about a request in which nothing can be said
        call()


def _judge(surface: Surface, case: Case, findings: Findings) -> None:
    headers = surface.headers(case.operation.path)
    response = case.call(headers=headers, timeout=PATIENCE)
    findings.requests += 1
    findings.statuses[response.status_code] += 1
    try:
        # What a description cannot say (an objective that is one, a release in the right state) may still be refused; and a body that is
        # refused for its length was refused. A parameter that is an empty list is not sent at all.
        unsent = any(value == [] for value in (case.query or {}).values())
        excluded = [positive_data_acceptance, *([negative_data_rejection] if unsent or response.status_code == TOO_LARGE else [])]
        case.validate_response(response, headers=headers, excluded_checks=excluded)
    except (Failure, FailureGroup) as failure:
        told = failure.exceptions if isinstance(failure, FailureGroup) else [failure]
        for each in told:
            findings.failures.setdefault(f"{case.method} {case.path}: {each.title} ({response.status_code})", str(each))
