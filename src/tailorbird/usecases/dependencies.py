"""Dependencies of every use case: the ports, opened once by ``wiring``, and the count of denials."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from tailorbird.base_models import ModelCache
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.sealed_stream import derive
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import Forbidden, Unavailable
from tailorbird.domain.identity import DataKey, Identity, Signature
from tailorbird.domain.plan import Prices
from tailorbird.domain.run import Outlook, TrainingProgress
from tailorbird.domain.value import Digest
from tailorbird.ledger import Ledger
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.ledger.blobs import Blobs
from tailorbird.ports.clock import Clock
from tailorbird.ports.compute import Compute
from tailorbird.ports.detector import Detector
from tailorbird.ports.encoder import Encoder
from tailorbird.ports.endpoint import EndpointClient
from tailorbird.ports.engine import LocalEngine
from tailorbird.ports.model_reader import ModelReader
from tailorbird.ports.tracker import Notifier, Tracker
from tailorbird.ports.trainer import Trainer
from tailorbird.system.outward_access import Credentials
from tailorbird.usecases.tenant_keys import TenantKeys

#: Denials of one actor in a minute that are written by themselves; actors that are remembered.
MOST, _ACTORS = 10, 10_000
WINDOW = timedelta(minutes=1)


class Uncounted(NamedTuple):
    """Denials of ``actor`` from ``since`` on that were not written by themselves."""

    tenant: str
    actor: str
    since: datetime
    denied: int


@dataclass
class _Minute:
    began: datetime
    most: int
    denied: int = 0


class Denials:
    """What one process denied lately. Safe to share between threads; what it has counted and not told is lost with the process."""

    def __init__(self) -> None:
        self._minutes: OrderedDict[tuple[str, str], _Minute] = OrderedDict()
        self._over: list[Uncounted] = []
        self._lock = Lock()

    def is_written(self, tenant: str, actor: str, now: datetime, most: int = MOST) -> bool:
        """Counts a denial; True when it is to be written by itself, as are ``most`` of an actor in a minute."""
        with self._lock:
            minute = self._minutes.get((tenant, actor))
            if minute is None or not minute.began <= now < minute.began + WINDOW:
                self._close(tenant, actor)
                minute = self._minutes[tenant, actor] = _Minute(now, most)
                while len(self._minutes) > _ACTORS:
                    self._close(*next(iter(self._minutes)))
            minute.denied += 1
            return minute.denied <= minute.most

    def take(self, now: datetime | None = None) -> list[Uncounted]:
        """The counts of minutes that were over by ``now`` (None: of all), each once."""
        with self._lock:
            for key, minute in list(self._minutes.items()):
                if now is None or not minute.began <= now < minute.began + WINDOW:
                    self._close(*key)
            over, self._over = self._over, []
            return over

    def _close(self, tenant: str, actor: str) -> None:
        minute = self._minutes.pop((tenant, actor), None)
        if minute is not None and minute.denied > minute.most:
            self._over.append(Uncounted(tenant, actor, minute.began, minute.denied - minute.most))


def _no_encoder() -> Encoder:
    raise Unavailable("no encoder is installed", "pip install 'tailorbird[local]'", code="package_missing")


def _no_detectors(names: Sequence[str]) -> Sequence[Detector]:
    if names:
        raise Unavailable(f"no detector {names[0]} is installed", f"pip install 'tailorbird[{names[0]}]'", code="package_missing")
    return ()


def _no_endpoints(endpoint: Endpoint, _model: str) -> EndpointClient:
    raise Unavailable(
        f"nothing here asks the endpoint {endpoint.name}", "install tailorbird again: pip install tailorbird", code="part_missing"
    )


@dataclass(frozen=True)
class MaintenanceSettings:
    """What keeps a workspace in order while nobody looks.

    Checkpoints of the log are made every ``checkpoint_every`` (zero: by hand only), appended to ``checkpoint_files``, sent to
    ``checkpoint_hooks``, by URL. Production is watched every ``watch_every`` (zero: by hand only). Below
    ``disk_floor`` free bytes the health says so. ``record_file`` is the file of the record, where it is one.
    """

    checkpoint_files: tuple[Path, ...] = ()
    checkpoint_hooks: Mapping[str, Notifier] = field(default_factory=dict)
    checkpoint_every: timedelta = timedelta(hours=1)
    watch_every: timedelta = timedelta(minutes=15)
    disk_floor: int = 200_000_000
    record_file: Path | None = None


@dataclass(frozen=True)
class Dependencies:
    """The opened ports. ``trainer``, ``engine``, ``encoder`` and ``model_reader`` open on first use: only they need torch.

    ``workspace`` is the folder with the database, artifacts, models and keys. ``host`` is the tenant whose admins add and remove the
    others; ``redact`` takes out of a text what tells who somebody is (None: no words of requests are ever kept); ``detectors`` opens those
    of personal data that an objective names beside our own.
    ``fetches_encoder``: a plan whose floor could read vectors fetches the catalogue's encoder.
    ``model_cache`` is the folder of converted base models that a user's workspaces share (None: each has its own).
    ``credentials`` are those that places of tenants may name; ``endpoint_client`` opens a client of a model of an endpoint.
    ``compute`` opens the cluster that does the steps of runs (None: they are done here), each with ``step_cores`` cores where no plan says
    (0: all of a node), and a training by ``training_processes`` there (0: one for each GPU); ``settings_digest`` names the settings that
    results depend on, which must be the same on every node.

    ``artifacts`` are those of ``tenant``, where the workspace encrypts; before a tenant is named, those in the clear. ``keys`` are the data
    keys of tenants; ``sealed`` opens what a key has encrypted, ``sealed_files`` its files as they lie there, by the key's scope. ``clear``
    is the folder for what is decrypted (None: nothing ever is).
    """

    ledger: Ledger
    artifacts: ArtifactStore
    clock: Clock
    workspace: Path
    trainer: Callable[[], Trainer]
    engine: Callable[[], LocalEngine]
    model_reader: Callable[[], ModelReader]
    encoder: Callable[[], Encoder] = _no_encoder
    prices: Prices = field(default_factory=Prices)
    denials: Denials = field(default_factory=Denials)
    notifiers: Callable[[], Sequence[Notifier]] = tuple
    trackers: Callable[[], tuple[Tracker, ...]] = tuple
    upkeep: MaintenanceSettings = field(default_factory=MaintenanceSettings)
    host: str = ""
    redact: Callable[[str], str] | None = None
    detectors: Callable[[Sequence[str]], Sequence[Detector]] = _no_detectors
    fetches_encoder: bool = False
    model_cache: Path | None = None
    credentials: Credentials = field(default_factory=dict, repr=False)
    endpoint_client: Callable[[Endpoint, str], EndpointClient] = _no_endpoints
    compute: Callable[[], Compute | None] = lambda: None
    step_cores: int = 0
    training_processes: int = 0
    settings_digest: Digest = ""
    tenant: str = ""
    keys: TenantKeys | None = None
    sealed: Callable[[DataKey], ArtifactStore] | None = None
    sealed_files: Callable[[str], Blobs] | None = None
    clear: Callable[[], Path] | None = None

    def for_tenant(self, tenant: str) -> Dependencies:
        """The same with the artifacts of one tenant: what it puts is encrypted under its key, where the workspace encrypts."""
        keys, sealed = self.keys, self.sealed
        if keys is None or sealed is None or self.tenant == tenant:
            return self
        if self.tenant:
            raise Forbidden(f"work of tenant {self.tenant} asks for artifacts of {tenant}", "ask as that tenant", code="other_tenant")

        @cache
        def opened() -> ArtifactStore | None:
            key = keys.of(tenant)
            return sealed(key) if key is not None else None

        return replace(self, tenant=tenant, artifacts=self.artifacts.of_tenant(opened))

    @property
    def models(self) -> ModelCache:
        """Where fetched base models lie."""
        return ModelCache(self.workspace / "models", self.model_cache)

    @property
    def runs(self) -> Path:
        """Where running work keeps its checkpoints."""
        return self.workspace / "runs"

    def scratch(self, run: str) -> Path | None:
        """Where a run keeps what must not come on a disk in the clear; None where the workspace does not encrypt."""
        return self.in_the_clear and self.in_the_clear / "runs" / run

    @property
    def in_the_clear(self) -> Path | None:
        """The folder for what must not come on a disk in the clear; None where the workspace does not encrypt."""
        return self.clear() if self.clear is not None and self.keys is not None and self.keys.encrypts else None

    def seal_key(self, purpose: str) -> str:
        """The key of ``tenant`` for one purpose, in hexadecimal digits; empty where the workspace does not encrypt."""
        key = self.keys.of(self.tenant) if self.keys is not None and self.keys.encrypts and self.tenant else None
        return derive(key, purpose).hex() if key is not None else ""

    def reference(self, release: Digest) -> Path:
        """Where this machine keeps what production of a release is compared with."""
        return self.workspace / "cache" / f"reference-{digest_of({'release': release}).removeprefix('sha256:')}.json"

    def indexes(self, tenant: str) -> Path:
        """Where a tenant's stored indexes are remembered, by what they were made of, without words."""
        return self.workspace / "indexes" / tenant


@dataclass(frozen=True)
class Actor:
    """Somebody who has proven who they are: an identity of the ledger, and a way to sign with its own key."""

    identity: Identity
    sign: Callable[[str, Digest], Signature]

    @property
    def tenant(self) -> str:
        """The tenant the identity belongs to."""
        return self.identity.tenant

    @property
    def name(self) -> str:
        """The identity's name."""
        return self.identity.name


@dataclass(frozen=True)
class StepBegun:
    """A step that begins: of which run, how many of its steps are done, and what the plan expects."""

    run: str
    name: str
    done: int
    outlook: Outlook


@dataclass(frozen=True)
class Progress:
    """Who is told how far the work is; silent by default. ``step`` hears of a step that begins, and None once it has ended."""

    tell: Callable[[str], None] = lambda _text: None
    training: Callable[[TrainingProgress], None] = lambda _progress: None
    count: Callable[[int, int], None] = lambda _done, _total: None
    step: Callable[[StepBegun | None], None] = lambda _step: None
