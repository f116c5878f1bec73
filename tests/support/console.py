"""A workspace in which something has happened, and a browser without a screen to look at it."""

from __future__ import annotations

import asyncio
import shutil
import zlib
from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

import support.ledger_samples as sample
from support.doubles import FixedClock, MemoryEngine
from support.usecases import LABELS, write_objective
from support.usecases import open_workspace as a_workspace
from support.workspace_ledger import SQLITE
from tailorbird.console import console_routes
from tailorbird.domain.deployment import RequestRow, Servable
from tailorbird.domain.feedback import Review, ReviewReason, Severity, Signal
from tailorbird.domain.objective import LiveKpi
from tailorbird.domain.prompt import Message
from tailorbird.domain.rollout import Rollout
from tailorbird.domain.run import Run, RunState, StepProgress
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LabelScores
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.audit import make_checkpoint
from tailorbird.usecases.releases import promotion
from tailorbird.usecases.runs import submit
from tailorbird.usecases.sessions import LoginEntry

#: The ledger has a clock of its own, and forgets sessions of long ago: ours stands still, but at today.
NOW = datetime.now(UTC)
#: By what the console is known.
HTTP, HTTPS = "http://console.test", "https://console.test"
#: What nobody may ever see act, as the reason of a KPI and in a reading.
NASTY = "<script>alert('x')</script>"


class ClimbingEngine(MemoryEngine):
    """A twin that an adapter helps: without one it turns every third answer round, with demonstrations every fifth."""

    def __init__(self) -> None:
        super().__init__()
        self._turned: dict[Digest, int] = {}

    def load(self, servable: Servable) -> None:
        super().load(servable)
        self._turned[servable.id] = 0 if servable.adapter else 5 if servable.prompt.demonstrations else 3

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        found = super().score(servable, prompts, labels)
        every = self._turned[servable]
        return [
            _turned(scores) if every and _number(prompt) % every == 0 else scores for scores, prompt in zip(found, prompts, strict=True)
        ]


def _turned(scores: LabelScores) -> LabelScores:
    return scores.model_copy(update={"log_probabilities": scores.log_probabilities[1:] + scores.log_probabilities[:1]})


def _number(prompt: Sequence[Message]) -> int:
    return zlib.crc32(prompt[-1].content.encode())


def open_workspace(workspace: Path, ledger_kind: str = SQLITE) -> Dependencies:
    """The workspace there, whose engine an adapter helps."""
    engine = ClimbingEngine()
    return replace(a_workspace(workspace, ledger_kind, FixedClock(NOW)), engine=lambda: engine)


def job(folder: Path, name: str, because: str) -> Path:
    business = {"goal": "Send each message to the right team.", "owner": "support", "risk": "limited"}
    return write_objective(folder, name=name, business=business, kpis=[{"metric": "accuracy", "target": 0.8, "because": because}])


def furnish(folder: Path, ledger_kind: str = SQLITE) -> None:
    """Makes ``folder/workspace``: one run climbed to a gated release, one in the middle of a training, requests, readings, a checkpoint."""
    folder.mkdir(parents=True)
    deps = open_workspace(folder / "workspace", ledger_kind)
    author = act_as(deps, "acme", "author")
    ended = submit.adapt(deps, author, job(folder / "job", "desk", "as good as people"), Progress())
    assert ended.conclusion is not None
    assert ended.conclusion.release is not None
    under_way(deps, author, job(folder / "other", "triage", f"as good as people {NASTY}"))
    with deps.ledger.work("acme") as work:
        work.requests.add([request_row(number, deps, ended.conclusion.release) for number in range(60)])
        work.signals.add([signal(deps, severity, ended.conclusion.release) for severity in Severity])
    on_its_way = rollout(deps)
    with deps.ledger.work("acme") as work:
        work.rollouts.add(on_its_way)
        work.reviews.add([review(deps)])
    make_checkpoint(deps, act_as(deps, "acme", "operator"))
    deps.ledger.close()


def under_way(deps: Dependencies, author: Actor, path: Path) -> Run:
    """A run whose step is held by a worker that has told how far it is."""
    run = submit.submit(deps, author, path, RunState.ACTIVE)
    told = sample.progress(12)
    line = told.training.model_copy(update={"steps": 40, "loss": 0.8125, "held_out_loss": 0.91, "tokens_per_second": 812.0})
    with deps.ledger.work("acme") as work:
        work.steps.enqueue(run.id, "snapshot")
        step = work.steps.lease(run.id, "worker-7:41", timedelta(minutes=5))
        assert step is not None
        work.steps.heartbeat(step, timedelta(minutes=5), StepProgress(text="training lora r16", done=480, total=1600, training=line))
    return run


def request_id(number: int) -> str:
    return "req_" + "0" * 24 + f"{(number + 1) * 2654435761 % 2**32:08x}"


def request_row(number: int, deps: Dependencies, release: Digest) -> RequestRow:
    refused = number % 20 == 19
    row = sample.request("acme", number).model_copy(
        update={"id": request_id(number), "alias": "acme/desk", "at": deps.clock.now() - timedelta(minutes=number)}
    )
    if refused:
        return row.model_copy(update={"release": None, "status": 429, "outcome": "refused", "error": "exhausted", "prediction": None})
    return row.model_copy(update={"release": release, "prediction": LABELS[number % 3], "latency_ms": 40.0 + number * 7 % 23})


def rollout(deps: Dependencies) -> Rollout:
    """A release on its way, with a live KPI, and nothing counted yet."""
    given = {"id": "5c0d1f7a90be", "candidate": release_of(deps), "incumbent": release_of(deps), "started_by": "operator"}
    times = dict.fromkeys(("step_since", "started_at", "changed_at"), deps.clock.now())
    return sample.rollout("acme", "triage").model_copy(update=given | times | {"live_kpis": (LiveKpi(metric="thumbs", target=0.8),)})


def review(deps: Dependencies) -> Review:
    """An answer that waits for people."""
    at = deps.clock.now()
    return Review(tenant="acme", request=request_id(0), alias="acme/desk", reason=ReviewReason.REFERRED, queued_at=at)


def signal(deps: Dependencies, severity: Severity, release: Digest) -> Signal:
    text = f"Messages differ from those that were learned from {NASTY}"
    given = {"release": release, "severity": severity, "text": text, "at": deps.clock.now(), "value": 0.4, "bound": 0.2}
    return sample.signal("acme", objective="desk").model_copy(update=given)


def copied(furnished: Path, folder: Path) -> Dependencies:
    """A copy of the furnished workspace, to change."""
    return open_workspace(shutil.copytree(furnished / "workspace", folder / "workspace"))


def release_of(deps: Dependencies) -> Digest:
    with deps.ledger.work("acme", write=False) as work:
        return work.releases.all()[0].digest


def run_named(deps: Dependencies, objective: str) -> str:
    with deps.ledger.work("acme", write=False) as work:
        return next(run.id for run in work.runs.latest() if run.objective_name == objective)


def approve(deps: Dependencies) -> None:
    promotion.sign_and_decide(deps, act_as(deps, "acme", "approver"), release_of(deps), "approve", "read")


def application(deps: Dependencies, servers: Container[str] = frozenset({HTTP, HTTPS})) -> FastAPI:
    app = FastAPI()
    app.include_router(console_routes(LoginEntry(deps, servers)))
    return app


class Reader:
    """Asks the console over ASGI and keeps its cookie, as a browser does that shows nothing."""

    def __init__(self, deps: Dependencies, scheme: str = "http") -> None:
        self.deps = deps
        self.app = application(deps)
        self.origin = {"http": HTTP, "https": HTTPS}[scheme]
        self.cookies = httpx.Cookies()

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        """A form, sent from one of our own pages unless ``headers`` say otherwise."""
        return self._ask("POST", path, form or {}, headers or {"sec_fetch_site": "same-origin"})

    def log_in(self, name: str, **form: str) -> httpx.Response:
        """As the page does it: has a login prepared, signs it, sends it."""
        prepared = self.post("/console/login/prepare", {"tenant": "acme", "identity": name}).json()
        signature = act_as(self.deps, "acme", name).sign("login", prepared["digest"])
        signed = {"signed": prepared["text"], "public_key": signature.public_key, "signature": signature.signature}
        return self.post("/console/login", signed | form)

    def _ask(self, method: str, path: str, form: dict[str, str] | None, headers: dict[str, str]) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=self.origin, cookies=self.cookies) as client:
                sent: dict[str, Any] = {} if form is None else {"data": form}
                answer = await client.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}, **sent)
                self.cookies = client.cookies
                return answer

        return asyncio.run(ask())
