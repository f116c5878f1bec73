"""Operations that look: at answers, at traffic, at the tamper-evident log, at base models."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from tailorbird import base_models as models
from tailorbird.auth import Action
from tailorbird.domain.deployment import RequestRow, Traffic
from tailorbird.domain.event import AuditReport, Checkpoint, LogEntry
from tailorbird.domain.signal import Signal
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.reporting import Explanation
from tailorbird.usecases.audit_events import remarks
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.maintenance import audit
from tailorbird.usecases.monitoring import watch
from tailorbird.usecases.monitoring.explain import explain
from tailorbird.usecases.operations.operation import Nothing, Operation


class OneRequest(Value):
    """Names a request, by the id in its response's header."""

    request: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]


class Window(Value):
    """The last ``minutes``."""

    minutes: Annotated[int, Field(ge=1, le=60 * 24 * 31)] = 60


class TrafficView(Value):
    """What each release answered in the window, and the newest requests."""

    traffic: tuple[Traffic, ...]
    latest: tuple[RequestRow, ...]


class LogPage(Value):
    """Which entries of the log are wanted: ``limit`` before the index ``before``, newest first; or all about one ``subject``."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    before: Annotated[int, Field(ge=0, lt=1 << 62)] | None = None
    subject: Annotated[str, Field(max_length=200)] = ""


class Entries(Value):
    """Entries of the tenant's, newest first, and the size of the whole log. ``remarks`` are the texts that entries name by digest, as far
    as they were not erased."""

    entries: tuple[LogEntry, ...]
    size: int
    remarks: dict[Digest, str] = Field(default_factory=dict)


class ProofWanted(Value):
    """Which proof: of the entry ``index`` in the tree of ``size`` (default: the newest)."""

    index: Annotated[int, Field(ge=0, lt=1 << 62)]
    size: Annotated[int, Field(ge=1, lt=1 << 62)] | None = None


class ConsistencyWanted(Value):
    """Which proof: that the tree of size ``first`` is a beginning of that of size ``second`` (default: the newest)."""

    first: Annotated[int, Field(ge=1, lt=1 << 62)]
    second: Annotated[int, Field(ge=1, lt=1 << 62)] | None = None


class SignalList(Value):
    """Readings of production, newest first."""

    signals: tuple[Signal, ...]


class SignalsWanted(Value):
    """Which readings: the newest ``limit``, of one objective where named."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    objective: Name | None = None


class ModelOffer(Value):
    """A base model on offer; ``here`` when it has been fetched."""

    name: str
    title: str
    license: str
    parameters: int
    role: str = "decoder"
    here: bool


class Models(Value):
    """Base models on offer."""

    models: tuple[ModelOffer, ...]


def _explain(deps: Dependencies, actor: Actor, asked: OneRequest) -> Explanation:
    return explain(deps, actor, asked.request)


def _traffic(deps: Dependencies, actor: Actor, asked: Window) -> TrafficView:
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant, write=False) as work:
        return TrafficView(traffic=work.requests.traffic(now - timedelta(minutes=asked.minutes), now), latest=work.requests.latest(50))


def _signals(deps: Dependencies, actor: Actor, asked: SignalsWanted) -> SignalList:
    with deps.ledger.work(actor.tenant, write=False) as work:
        return SignalList(signals=work.signals.latest(asked.limit, asked.objective))


def _log(deps: Dependencies, actor: Actor, asked: LogPage) -> Entries:
    with deps.ledger.work(actor.tenant, write=False) as work:
        entries = work.events.about(asked.subject)[::-1] if asked.subject else work.events.latest(asked.limit, asked.before)
        shown = entries[: asked.limit]
        return Entries(entries=shown, size=work.events.size(), remarks=remarks(work, shown))


def _verify(deps: Dependencies, actor: Actor, _asked: Nothing) -> AuditReport:
    return audit.verify_log(deps, actor)


def _checkpoint(deps: Dependencies, actor: Actor, _asked: Nothing) -> Checkpoint:
    return audit.make_checkpoint(deps, actor)


def _inclusion(deps: Dependencies, _actor: Actor, asked: ProofWanted) -> audit.Inclusion:
    return audit.prove_inclusion(deps, asked.index, asked.size)


def _consistency(deps: Dependencies, _actor: Actor, asked: ConsistencyWanted) -> audit.Consistency:
    return audit.prove_consistency(deps, asked.first, asked.second)


def _models(deps: Dependencies, _actor: Actor, _asked: Nothing) -> Models:
    return Models(models=tuple(map(_offer, models.list_models(deps.models))))


def _offer(known: models.ModelListing) -> ModelOffer:
    return ModelOffer(
        name=known.name,
        title=known.title,
        license=known.license,
        parameters=known.parameters,
        role=known.role,
        here=known.folder is not None,
    )


def _watch(deps: Dependencies, actor: Actor, _asked: Nothing) -> watch.ProductionCheck:
    return watch.look(deps, actor)


EXPLAIN = Operation(
    "request.explain",
    "GET",
    "/api/requests/{request}",
    Action.EXPLAIN,
    OneRequest,
    Explanation,
    _explain,
    "Show everything that stands behind an answer.",
)
TRAFFIC = Operation(
    "traffic.show", "GET", "/api/traffic", Action.SHOW_TRAFFIC, Window, TrafficView, _traffic, "Show what each release answered lately."
)
SIGNALS = Operation(
    "signal.list",
    "GET",
    "/api/signals",
    Action.SHOW_TRAFFIC,
    SignalsWanted,
    SignalList,
    _signals,
    "List readings of production, newest first.",
)
WATCH = Operation(
    "traffic.watch",
    "POST",
    "/api/watch",
    Action.WATCH,
    Nothing,
    watch.ProductionCheck,
    _watch,
    "Compare live messages, answers, service and data with what they were, and tell what is news.",
)
LOG = Operation("audit.log", "GET", "/api/audit/log", Action.VERIFY_AUDIT, LogPage, Entries, _log, "Read the log, newest first.")
VERIFY = Operation(
    "audit.verify", "POST", "/api/audit/verify", Action.VERIFY_AUDIT, Nothing, AuditReport, _verify, "Recompute the whole log."
)
CHECKPOINT = Operation(
    "audit.checkpoint", "POST", "/api/audit/checkpoints", Action.CHECKPOINT, Nothing, Checkpoint, _checkpoint, "Sign the log's head."
)
INCLUSION = Operation(
    "audit.inclusion",
    "GET",
    "/api/audit/inclusion",
    Action.VERIFY_AUDIT,
    ProofWanted,
    audit.Inclusion,
    _inclusion,
    "Prove that an entry is in the log.",
)
CONSISTENCY = Operation(
    "audit.consistency",
    "GET",
    "/api/audit/consistency",
    Action.VERIFY_AUDIT,
    ConsistencyWanted,
    audit.Consistency,
    _consistency,
    "Prove that the log only grew.",
)
MODELS = Operation("model.list", "GET", "/api/models", Action.SHOW_RUN, Nothing, Models, _models, "List base models.")
