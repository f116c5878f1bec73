"""Capacity plans of serving, by timings of an engine that are kept in the workspace."""

from __future__ import annotations

import platform
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from tailorbird import base_models, planning
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.capacity import CapacityPlan, EngineTimings, ServingMeasurement
from tailorbird.domain.errors import NotFound
from tailorbird.domain.serving_traffic import ServingTraffic
from tailorbird.system.files import private_folder
from tailorbird.system.outward_client import is_this_machine
from tailorbird.system.processor import processor_kind
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import local

#: What was timed longer ago than this is timed again: drivers and libraries change.
_FRESH = timedelta(days=30)


@local(Action.PLAN)
def plan_capacity(deps: Dependencies, _actor: Actor, traffic: ServingTraffic) -> CapacityPlan:
    """Replicas for ``traffic`` and what they do, by timings in it, or by those that were kept last for its base model and precision: of the
    gateway that it names; where it names none, of an engine on a machine like this one.

    Raises Forbidden, NotFound (``serving_untimed``), InvalidInput.
    """
    return planning.capacity_plan(traffic, traffic.timings or _kept(deps, traffic), deps.prices)


@local(Action.PLAN)
def keep_measurement(deps: Dependencies, _actor: Actor, traffic: ServingTraffic, measured: ServingMeasurement) -> EngineTimings:
    """Fits an engine's timings to what was measured of it, and keeps them for the base model and precision of ``traffic``.

    Raises Forbidden, ModelInvalid (the base model is not here: its shape tells the size of an adapter).
    """
    base = base_models.describe_local(traffic.base_model, deps.models, deps.model_reader)
    adapter = planning.adapter_mebibytes(base, traffic.engine.precision, traffic.engine.adapters)
    named = {**_timed(traffic), "measured_at": deps.clock.now()}
    # All tenants' plans show it: the gateway's host, and no path, which might be known to some alone.
    gateway, processor = _asked(traffic)
    told = f"{gateway} from {platform.node()}" if gateway else platform.node()
    where = {"machine": f"{told}: {processor}" if processor else told, "gateway": gateway, "processor": processor}
    fitted = planning.fit_timings(measured, adapter, traffic.engine.kv_mb).model_copy(update=named | where)
    keep_timings(deps, fitted)
    return fitted


def keep_timings(deps: Dependencies, timings: EngineTimings) -> None:
    """Keeps an engine's timings for the plans of all tenants: tokens and seconds, no words."""
    folder = private_folder(_folder(deps))
    name = digest_of(timings).removeprefix("sha256:")
    (partial := folder / f".{name}.partial").write_text(timings.model_dump_json(), encoding="utf-8")
    partial.replace(folder / f"{name}.json")


def _asked(traffic: ServingTraffic) -> tuple[str, str]:
    """The gateway that is timed, and the processor behind it; empty where that is another machine's: it is known by the gateway alone."""
    if traffic.gateway is None:
        return "", processor_kind()
    place = urlsplit(traffic.gateway.url)
    return place.netloc, processor_kind() if is_this_machine(place.hostname or "") else ""


def _timed(traffic: ServingTraffic) -> dict[str, str]:
    """The base model and the number formats by which timings are kept apart."""
    return {"base_model": traffic.base_model, "precision": traffic.engine.precision, "adapters": traffic.engine.adapters}


def _kept(deps: Dependencies, traffic: ServingTraffic) -> EngineTimings:
    wanted, oldest = _timed(traffic), deps.clock.now() - _FRESH
    fresh = [
        one
        for one in _all(_folder(deps))
        if {name: getattr(one, name) for name in wanted} == wanted and one.measured_at and one.measured_at > oldest
    ]
    gateway, processor = _asked(traffic)
    found = [one for one in fresh if one.processor == processor and gateway in ("", one.gateway)]
    if not found:
        elsewhere = "; ".join(sorted({one.machine for one in fresh}))
        narrow = " with adapters in 4 bits" if traffic.engine.adapters == "int4" else ""
        where = f"by {gateway}" if gateway and not processor else f"on {processor}"
        raise NotFound(
            f"an engine with {traffic.base_model} in precision {traffic.engine.precision}{narrow} was not timed {where} lately"
            + (f", but elsewhere: {elsewhere}" if elsewhere else ""),
            "name a gateway that runs under gateway: and plan with --measure, or state them under timings: (docs/planning.md)",
            code="serving_untimed",
        )
    return max(found, key=lambda one: str(one.measured_at))


def _all(folder: Path) -> list[EngineTimings]:
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValidationError):  # taken away meanwhile, or of another version
            found.append(EngineTimings.model_validate_json(path.read_bytes()))
    return found


def _folder(deps: Dependencies) -> Path:
    return deps.timings / "serving"
