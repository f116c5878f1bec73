"""A record with tenants, releases, aliases and keys, and an engine driver in this process: what serving stands between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import support.ledger_samples as sample
from support.doubles import FixedClock, MemoryEngine, MemoryModelReader, MemoryTrainer
from support.workspace_ledger import SQLITE, workspace_ledger
from tailorbird import auth
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Alias, AliasTarget, LocalRetrieval, RequestRow, Servable, Stage
from tailorbird.domain.errors import NotFound, TailorbirdError
from tailorbird.domain.evidence import TokenChances
from tailorbird.domain.identity import ApiKey, Tenant
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Demonstration, Message, PromptSpec, Sampling
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.value import Digest
from tailorbird.ledger import open_artifacts
from tailorbird.ports.engine import (
    Chunk,
    EmbedRequest,
    EngineState,
    GenerateRequest,
    LabelScores,
    LoadRequest,
    LocalEngine,
    ProbeRequest,
    Question,
    RankRequest,
    RetrieveRequest,
    ScoreRequest,
)
from tailorbird.system.clock import SystemClock
from tailorbird.usecases import Dependencies, MaintenanceSettings

LABELS = ("lost_card", "top_up", "refund")
CLASSIFY = PromptSpec(instruction="Classify.", labels=LABELS)
GENERATE = PromptSpec(instruction="Be brief.", demonstrations=(Demonstration(row_id="1", text="hi", target="HI"),))
ASK = (Message(role="user", content="I lost my card"),)
digest = sample.digest


def make_release(tenant: str, n: int, task: TaskKind, at: datetime, **changes: object) -> Release:
    """``changes`` are of its content."""
    prompt = CLASSIFY if task is TaskKind.CLASSIFY else GENERATE
    made = sample.release(tenant, n)
    content = made.content.model_copy(
        update={"run": "run1", "task": task, "rung": RungKind.PROMPT, "adapter": None, "prompt": prompt} | changes
    )
    dossier = made.dossier.model_copy(update={"release": digest_of(content), "created_at": at})
    signature = made.signature.model_copy(update={"digest": digest_of(dossier), "at": at})
    return Release(digest=dossier.release, content=content, dossier=dossier, state=ReleaseState.PRODUCTION, signature=signature)


class House:
    """A ledger with two tenants, on disk unless ``ledger_kind`` says otherwise. ``refusals`` are releases that the engine's gate refuses,
    and with what; ``lookups`` what some look up."""

    def __init__(self, folder: Path, *, new: bool = True, ledger_kind: str = SQLITE) -> None:
        self.folder = folder
        self.ledger = workspace_ledger(folder, SystemClock(), ledger_kind)
        self.record_file = folder / "tailorbird.db" if ledger_kind == SQLITE else None
        self.clock = FixedClock()
        self.refusals: dict[Digest, TailorbirdError] = {}
        self.lookups: dict[Digest, LocalRetrieval] = {}
        if new:
            self._furnish()

    @classmethod
    def reopen(cls, folder: Path) -> House:
        """The house that another process furnished."""
        return cls(folder, new=False)

    @property
    def deps(self) -> Dependencies:
        """What the gateway is given."""
        return Dependencies(
            ledger=self.ledger,
            artifacts=open_artifacts(str(self.folder / "artifacts"), self.folder / "cache"),
            clock=self.clock,
            workspace=self.folder,
            trainer=MemoryTrainer,
            engine=MemoryEngine,
            model_reader=MemoryModelReader,
            upkeep=MaintenanceSettings(record_file=self.record_file),
        )

    def _furnish(self) -> None:
        with self.ledger.system() as system:
            for name in ("acme", "globex"):
                system.tenants.add(Tenant(name=name, created_at=self.clock.now()))

    def release(self, n: int = 1, tenant: str = "acme", task: TaskKind = TaskKind.CLASSIFY, **content: object) -> Digest:
        made = make_release(tenant, n, task, self.clock.now(), **content)
        with self.ledger.work(tenant) as work:
            work.releases.add(made)
        return made.digest

    def point(self, name: str, *releases: Digest, tenant: str = "acme", weights: Sequence[int] = (), stage: Stage = "production") -> Alias:
        """Moves an alias; no release withdraws it."""
        targets = tuple(AliasTarget(release=r, weight=w) for r, w in zip(releases, weights or [100] * len(releases), strict=True))
        with self.ledger.work(tenant) as work:
            try:
                before = work.aliases.get(name, stage)
                version, previous = before.version + 1, before.targets
            except NotFound:
                version, previous = 1, ()
            moved = {"version": version, "moved_at": self.clock.now(), "moved_by": "olga"}
            alias = Alias(tenant=tenant, name=name, stage=stage, targets=targets, previous=previous, **moved)
            work.aliases.put(alias)
        return alias

    def key(self, tenant: str = "acme", expires_at: datetime | None = None, groups: frozenset[str] = frozenset()) -> tuple[ApiKey, str]:
        key, secret = auth.issue_api_key(tenant, "robot", self.clock.now(), expires_at, groups=groups)
        with self.ledger.work(tenant) as work:
            work.keys.add(key)
        return key, secret

    def rows(self, tenant: str = "acme") -> tuple[RequestRow, ...]:
        with self.ledger.work(tenant, write=False) as work:
            return work.requests.latest(10_000)

    def ended(self, tenant: str = "acme") -> tuple[RequestRow, ...]:
        """Rows of requests that have ended: that of a stream stands before."""
        return tuple(row for row in self.rows(tenant) if row.outcome != "open")

    def admit(self, request: LoadRequest) -> Servable:
        if request.release in self.refusals:
            raise self.refusals[request.release]
        with self.ledger.work(request.tenant, write=False) as work:
            content = work.releases.get(request.release).content
        named = {"id": request.release, "tenant": request.tenant, "task": content.task, "base": "base", "adapter": None, "weights": None}
        return Servable(**named, prompt=content.prompt, retrieval=self.lookups.get(request.release))


def scoring(release: Digest, prompt: Sequence[Message], labels: Sequence[str]) -> ScoreRequest:
    return ScoreRequest(release=release, prompt=tuple(prompt), labels=tuple(labels))


def writing(release: Digest, prompt: Sequence[Message], sampling: Sampling) -> GenerateRequest:
    return GenerateRequest(release=release, prompt=tuple(prompt), sampling=sampling)


class DirectDriver:
    """An ``EngineDriver`` that calls an engine in this process, without a wire."""

    def __init__(self, house: House, engine: LocalEngine | None = None) -> None:
        self.house = house
        self.engine = engine or MemoryEngine()
        self.up = True
        self.loads: list[Digest] = []
        self.unloads: list[Digest] = []
        self.load_seconds = 0.0
        self.held_up: dict[Digest, asyncio.Event] = {}
        self.away: TailorbirdError | None = None

    def _check(self) -> None:
        if self.away is not None:
            raise self.away

    async def load(self, request: LoadRequest) -> None:
        self._check()
        self.loads.append(request.release)
        servable = self.house.admit(request)
        await asyncio.sleep(self.load_seconds)
        if request.release in self.held_up:
            await self.held_up[request.release].wait()
        self.engine.load(servable)

    async def unload(self, release: Digest) -> None:
        self._check()
        self.unloads.append(release)
        self.engine.unload(release)

    async def ask(self, request: Question[Any]) -> Any:
        self._check()
        match request:
            case ScoreRequest():
                return await self.score(request)
            case GenerateRequest():
                return self.stream(request)
            case RetrieveRequest():
                return self.engine.retrieve(request.release, [request.text], request.groups, request.count)[0]
            case RankRequest():
                return self.engine.rank(request.release, request.text, request.documents, request.count)
            case EmbedRequest():
                return self.engine.embed(request.release, request.texts)
            case ProbeRequest():
                return await self.probe(request)

    async def score(self, request: ScoreRequest) -> LabelScores:
        return self.engine.score(request.release, [request.prompt], request.labels)[0]

    async def probe(self, request: ProbeRequest) -> list[TokenChances] | None:
        return self.engine.probe(request)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self._check()
        pieces: list[str] = []
        (made,) = self.engine.generate(request.release, [request.prompt], request.sampling, lambda _, text: pieces.append(text) is None)
        for piece in pieces:
            yield Chunk(text=piece)
        counts = {"prompt_tokens": made.prompt_tokens, "completion_tokens": made.completion_tokens}
        yield Chunk(text="", finish_reason=made.finish_reason, tool_calls=made.tool_calls, **counts)

    async def status(self) -> EngineState:
        self._check()
        return self.engine.state()

    async def close(self) -> None: ...


async def until(condition: Callable[[], bool]) -> None:
    """Waits until ``condition`` holds; a minute is for machines that do much else."""
    for _ in range(12_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition did not come true")
