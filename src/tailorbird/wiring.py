"""The composition root: the only place that chooses what stands behind a port."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from urllib.parse import urlsplit

from tailorbird import auth
from tailorbird.auth import KeyFileSealer
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import Forbidden, InvalidInput, Unavailable
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.ports.compute import Compute
from tailorbird.ports.detector import Detector
from tailorbird.ports.encoder import Encoder
from tailorbird.ports.endpoint import EndpointClient
from tailorbird.ports.engine import EngineDriver, LocalEngine
from tailorbird.ports.key_service import KeyService
from tailorbird.ports.model_reader import ModelReader
from tailorbird.ports.tracker import Notifier, Tracker
from tailorbird.ports.trainer import Trainer
from tailorbird.settings import Settings, check_closed
from tailorbird.system.clock import SystemClock
from tailorbird.system.files import OWNER_FOLDER, clear_root, folders_of_all, is_open_to_others, process_folder, write_for_owner_alone
from tailorbird.system.secret_references import read_secret
from tailorbird.usecases import Dependencies, MaintenanceSettings, admit
from tailorbird.usecases.feedback import redact
from tailorbird.usecases.tenant_keys import TenantKeys


def open_dependencies(settings: Settings, *, migrate: bool = True, busy_seconds: float | None = None) -> Dependencies:
    """Opens the ledger and the artifact store; what needs torch opens on first use.

    The ledger is brought to this version's schema: of several processes that find an older one, one does it and the others find it done.
    ``busy_seconds``: how long a transaction waits for another writer. From here on the process writes for its owner alone.
    Raises Forbidden when others may read the workspace.
    """
    write_for_owner_alone()
    check_closed(settings)
    from tailorbird.ledger import open_ledger

    ledger = open_ledger(settings.database_url, sealer=KeyFileSealer(settings.workspace), busy_seconds=busy_seconds)
    if migrate:
        ledger.migrate()
    keys = TenantKeys(ledger, SystemClock(), cache(lambda: open_key_service(settings)) if settings.encryption else None)
    artifacts = open_artifacts(settings.artifacts_url, settings.workspace / "cache")
    clear = cache(lambda: clear_root(settings.workspace))
    return Dependencies(
        ledger=ledger.keeping(keys.of_words) if keys.encrypts else ledger,
        artifacts=artifacts,
        clock=SystemClock(),
        workspace=settings.workspace,
        trainer=cache(lambda: _trainer(settings)),
        engine=cache(lambda: open_engine(settings)),
        model_reader=cache(_model_reader),
        encoder=cache(_encoder),
        prices=settings.prices,
        notifiers=cache(lambda: tuple(_notifier(url, settings.webhook_secret) for url in settings.alerts)),
        trackers=cache(lambda: tuple(_tracker(place, settings) for place in settings.tracking)),
        upkeep=_upkeep(settings),
        host=settings.tenant,
        redact=redact,
        detectors=open_detectors,
        fetches_encoder=settings.fetch_encoder,
        model_cache=_closed(settings.models),
        credentials=settings.credentials,
        endpoint_client=partial(open_endpoint, settings),
        compute=cache(lambda: _compute(settings)),
        step_cores=settings.step_cores,
        training_processes=settings.training_processes,
        settings_digest=settings.results_digest,
        keys=keys,
        sealed=lambda key: artifacts.sealed_by(key, process_folder(clear()) / key.scope, lambda: folders_of_all(clear(), key.scope)),
        sealed_files=artifacts.sealed_files,
        clear=clear,
    )


def open_key_service(settings: Settings) -> KeyService:
    """What the setting ``encryption`` names. Raises InvalidInput, and what opening it raises."""
    kind, _, place = settings.encryption.partition(":")
    if settings.key_file is not None:
        return auth.open_key_file(settings.key_file)
    if kind == "env" and place:
        return auth.open_key_variable(place)
    if kind == "vault":
        token = settings.key_service_token or os.environ.get("VAULT_TOKEN", "")
        from tailorbird.integrations.vault_transit import open_vault

        return open_vault(place, token, settings.key_service_ca)
    raise InvalidInput(
        f"the setting encryption is {settings.encryption!r}, which names no key",
        "file, file:PATH, env:NAME or vault:https://HOST:8200/transit/KEY",
        code="settings_invalid",
    )


def _closed(cache: Path) -> Path:
    """The folder of converted models, for its owner alone. Raises Forbidden where it is somebody else's, who could change what is run."""
    if cache.is_dir() and is_open_to_others(cache):
        if cache.stat().st_uid != os.getuid():
            hint = "name a folder of your own: the setting model_cache, or TAILORBIRD_MODEL_CACHE"
            raise Forbidden(f"the folder of base models {cache} is open to others and belongs to somebody else", hint)
        cache.chmod(OWNER_FOLDER)
    return cache


def open_artifacts(url: str, cache: Path) -> ArtifactStore:
    """The artifact store at ``url``; ``cache`` is a folder for what is read from it."""
    from tailorbird import ledger

    return ledger.open_artifacts(url, cache)


def open_detectors(names: Sequence[str]) -> tuple[Detector, ...]:
    """The detectors of personal data that an objective names beside our own. Raises Unavailable: a package or its model is missing."""
    return (_presidio(),) if names else ()


@cache
def _presidio() -> Detector:
    """Loaded once: a model takes seconds."""
    with _extra("presidio"):
        from tailorbird.integrations.presidio import open_detector
    return open_detector()


def open_driver(url: str, secret: str) -> EngineDriver:
    """A driver for the engine process at ``url``."""
    from tailorbird.integrations import loopback

    return loopback.open_driver(url, secret)


def open_outside_drivers(settings: Settings, deps: Dependencies) -> tuple[EngineDriver, ...]:
    """Drivers for the replicas of the server that the settings name in place of our own engine; none where they name none. Raises
    InvalidInput."""
    if settings.engine == "torch":
        return ()
    if not settings.engine_url or not settings.engine_model:
        raise InvalidInput(
            f"the setting engine is {settings.engine}, and nothing says where it is",
            "set engine_url (http://127.0.0.1:8000) and engine_model (what the server calls the base model)",
            code="settings_invalid",
        )
    # Raises InvalidInput for an address with a password, which logs, the record and the console would show, and for one that
    # is there twice.
    urls = settings.engine_url
    if any(urlsplit(url).username or urlsplit(url).password for url in urls):
        raise InvalidInput("engine_url holds a password", "give the key of the server as engine_key", code="settings_invalid")
    known = [url.rstrip("/") for url in urls]
    if twice := next((url for url in known if known.count(url) > 1), ""):
        raise InvalidInput(f"engine_url names {twice} twice", "name each server once", code="settings_invalid")
    from tailorbird.integrations import vllm

    key, model, base = settings.engine_key, settings.engine_model, settings.engine_base_url
    return tuple(vllm.open_driver(url, key, model, partial(admit, deps), base) for url in settings.engine_url)


def open_endpoint(settings: Settings, endpoint: Endpoint, model: str) -> EndpointClient:
    """A client of a model of an endpoint; its key is read at each request."""
    key = partial(read_secret, endpoint.key, settings.endpoint_keys, settings.workspace) if endpoint.key else str
    from tailorbird.integrations import hosted_endpoint

    return hosted_endpoint.open_endpoint(endpoint, model, key)


def _upkeep(settings: Settings) -> MaintenanceSettings:
    hooks = [place for place in settings.checkpoints if _is_url(place)]
    files = [settings.place(place) for place in settings.checkpoints if not _is_url(place)]
    return MaintenanceSettings(
        checkpoint_files=tuple(files),
        checkpoint_hooks={url: _notifier(url, settings.webhook_secret) for url in hooks},
        checkpoint_every=timedelta(minutes=settings.checkpoint_minutes),
        watch_every=timedelta(minutes=settings.watch_minutes),
        disk_floor=settings.disk_warning_mb * 1_000_000,
        record_file=settings.record_file,
    )


def _is_url(place: str) -> bool:
    return place.startswith(("https://", "http://"))


def _notifier(url: str, secret: str) -> Notifier:
    from tailorbird.integrations.webhook import open_notifier

    return open_notifier(url, secret)


def _tracker(given: str, settings: Settings) -> Tracker:
    """``mlflow:URL``."""
    kind, _, place = given.partition(":")
    if kind == "mlflow":
        from tailorbird.integrations import mlflow

        return mlflow.open_tracker(place, settings.tracking_token)
    raise InvalidInput(f"the setting tracking names {kind!r}, which is no tracker", "mlflow:URL", code="settings_invalid")


def _compute(settings: Settings) -> Compute | None:
    """The cluster that the settings name; None where steps are done here."""
    if settings.compute == "local":
        return None
    with _extra("ray"):
        from tailorbird.integrations.ray import RayCompute
    return RayCompute(settings.ray_address, "tailorbird.processes.worker:perform_step")


def _trainer(settings: Settings) -> Trainer:
    with _torch():
        from tailorbird.training import open_trainer

        return open_trainer(settings.training_processes)


def open_engine(settings: Settings) -> LocalEngine:
    """Our own engine."""
    with _torch():
        from tailorbird.inference import open_engine as open_torch

        return open_torch(
            settings.engine_precision,
            settings.engine_kernels,
            memory_mb=settings.engine_memory_mb,
            kv_mb=settings.engine_kv_mb,
        )


def _encoder() -> Encoder:
    with _torch():
        from tailorbird.inference import open_encoder

        return open_encoder()


def _model_reader() -> ModelReader:
    with _torch():
        from tailorbird.inference import open_model_reader

        return open_model_reader()


@contextmanager
def _torch() -> Iterator[None]:
    """Around an import that loads torch: its threads spin at a barrier for a moment, and then leave the core to others."""
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with _extra("local"):
        yield


@contextmanager
def _extra(name: str) -> Iterator[None]:
    """Around an import of what the extra ``name`` brings. Raises Unavailable where it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"the package {error.name} is not installed", f"pip install 'tailorbird[{name}]'", code="package_missing"
        ) from error
