"""Capacity plans go by the timings that were kept last for their base model and precision."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from support.capacity import TIMINGS, traffic
from tailorbird import base_models, planning
from tailorbird.domain.capacity import EngineTimings, ServingMeasurement
from tailorbird.domain.errors import Forbidden, NotFound
from tailorbird.system.processor import processor_kind
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.capacity import keep_measurement, keep_timings, plan_capacity


def timed(deps: Dependencies, days: float = 0, slower: float = 1, **changes: object) -> EngineTimings:
    at: datetime = deps.clock.now() - timedelta(days=days)
    passes = tuple((tokens, seconds * slower) for tokens, seconds in TIMINGS.pass_seconds)
    named = {"machine": "here", "processor": processor_kind(), "base_model": "small", "measured_at": at, "pass_seconds": passes}
    return TIMINGS.model_copy(update=named | changes)


def test_the_newest_timings_of_this_base_and_precision_count(deps: Dependencies, author: Actor) -> None:
    for one in (
        timed(deps),
        timed(deps, days=1, slower=2),
        timed(deps, base_model="other", slower=3),
        timed(deps, precision="int8", slower=4),
        timed(deps, adapters="int4", slower=5),
    ):
        keep_timings(deps, one)
    found = plan_capacity(deps, author, traffic())
    assert found == plan_capacity(deps, author, traffic(timings=timed(deps)))
    assert plan_capacity(deps, author, traffic(engine={"adapters": "int4"})).reading.p95_ms > found.reading.p95_ms


def test_timings_of_another_processor_are_not_taken_for_ones_own(deps: Dependencies, author: Actor) -> None:
    """A workspace on a shared disk: the newest timings counted, whatever had been timed."""
    keep_timings(deps, timed(deps, processor="64 cores of another kind", machine="big: 64 cores of another kind", slower=0.1))
    with pytest.raises(NotFound, match="but elsewhere: big: 64 cores of another kind") as caught:
        plan_capacity(deps, author, traffic())
    assert caught.value.error_code == "serving_untimed"
    keep_timings(deps, timed(deps, days=1))
    assert plan_capacity(deps, author, traffic()) == plan_capacity(deps, author, traffic(timings=timed(deps, days=1)))


def test_timings_of_a_gateway_are_of_plans_that_name_it(deps: Dependencies, author: Actor) -> None:
    keep_timings(deps, timed(deps))
    keep_timings(deps, timed(deps, processor="", gateway="far.example:8443", machine="far.example:8443 from here", slower=2))
    far = {"url": "https://far.example:8443", "key_file": "key.txt"}
    plan = plan_capacity(deps, author, traffic(gateway=far))
    assert plan.reading.p95_ms > plan_capacity(deps, author, traffic()).reading.p95_ms
    with pytest.raises(NotFound, match=r"was not timed by near\.example"):
        plan_capacity(deps, author, traffic(gateway=far | {"url": "https://near.example"}))


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
    assert (kept.gateway, kept.processor) == ("gateway.example:8443", "")
    assert "hunter2" not in plan_capacity(deps, author, traffic(gateway=gateway)).model_dump_json()
    here = keep_measurement(deps, author, traffic(gateway=gateway | {"url": "http://127.0.0.1:8080"}), measured)
    assert (here.gateway, here.processor) == ("127.0.0.1:8080", processor_kind())


def test_who_may_not_plan_is_refused(deps: Dependencies, approver: Actor) -> None:
    with pytest.raises(Forbidden):
        plan_capacity(deps, approver, traffic(timings=TIMINGS))
