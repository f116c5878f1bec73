"""Capacity plans go by the timings that were kept last for their base model and precision."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from support.capacity import TIMINGS, traffic
from tailorbird import base_models, planning
from tailorbird.domain.capacity import EngineTimings, ServingMeasurement
from tailorbird.domain.errors import Forbidden, NotFound
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.capacity import keep_measurement, keep_timings, plan_capacity


def timed(deps: Dependencies, days: float = 0, slower: float = 1, **changes: object) -> EngineTimings:
    at: datetime = deps.clock.now() - timedelta(days=days)
    passes = tuple((tokens, seconds * slower) for tokens, seconds in TIMINGS.pass_seconds)
    named = {"machine": "here", "base_model": "small", "measured_at": at, "pass_seconds": passes}
    return TIMINGS.model_copy(update=named | changes)


def test_the_newest_timings_of_this_base_and_precision_count(deps: Dependencies, author: Actor) -> None:
    for one in (
        timed(deps),
        timed(deps, days=1, slower=2),
        timed(deps, base_model="other", slower=3),
        timed(deps, precision="int8", slower=4),
    ):
        keep_timings(deps, one)
    assert plan_capacity(deps, author, traffic()) == plan_capacity(deps, author, traffic(timings=timed(deps)))


def test_without_timings_there_is_no_plan(deps: Dependencies, author: Actor) -> None:
    keep_timings(deps, timed(deps, days=31))
    (deps.timings / "serving" / "of-another-version.json").write_text("{}")
    with pytest.raises(NotFound) as caught:
        plan_capacity(deps, author, traffic())
    assert caught.value.error_code == "serving_untimed"


def test_kept_timings_name_the_gateways_host_alone(deps: Dependencies, author: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name, found in (
        (base_models, "describe_local", None),
        (planning, "adapter_mebibytes", 10.0),
        (planning, "fit_timings", TIMINGS),
    ):
        monkeypatch.setattr(place, name, lambda *_, found=found: found)
    measured = ServingMeasurement(
        steps=(), traffic=(), load_seconds=1, busy_load_seconds=1, load_slowdown=1, held_mb=1, resident=1, kv_tokens=1
    )
    gateway = {"url": "https://gateway.example:8443/hunter2/v2", "key_file": "key.txt"}
    kept = keep_measurement(deps, author, traffic(gateway=gateway), measured)
    assert kept.machine.startswith("gateway.example:8443 from ")
    assert "hunter2" not in plan_capacity(deps, author, traffic()).model_dump_json()


def test_who_may_not_plan_is_refused(deps: Dependencies, approver: Actor) -> None:
    with pytest.raises(Forbidden):
        plan_capacity(deps, approver, traffic(timings=TIMINGS))
