"""Gateway metrics in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tailorbird.domain.effect import EffectStanding
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.rollout import RolloutState
from tailorbird.serving import LOAD_PARTS, AliasSync, Bill, EffectChecks, EndpointCircuits, ShadowTraffic
from tailorbird.system.background_loop import Rounds

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


#: What the engine tells of itself: name in the metrics, field of its state, meaning. By release there is nothing: a label has few values.
_ENGINE = {
    "requests_running": ("running", "Requests that the engine works on."),
    "requests_waiting": ("waiting", "Requests that wait for the engine."),
    "kv_tokens": ("kv_tokens", "Room for keys and values, in tokens."),
    "kv_tokens_used": ("kv_tokens_used", "Of which used."),
    "prefix_queries": ("prefix_queries", "Prompt tokens looked up in the prefix cache."),
    "prefix_hits": ("prefix_hits", "Of which found."),
    "prompt_tokens": ("prompt_tokens", "Prompt tokens computed."),
    "generated_tokens": ("generated_tokens", "Tokens generated."),
    "memory_bytes": ("memory_used", "Memory of weights, indexes and encoders."),
    "memory_budget_bytes": ("memory_budget", "What they may take."),
}


#: The same of its releases, summed.
_RELEASES = {
    "releases_resident": ("resident", "Releases whose weights are in memory."),
    "releases_pinned": ("pinned", "Releases that stay there whatever the budget."),
    "loads": ("loads", "How often weights came into memory."),
    "load_seconds": ("load_seconds", "What that took."),
    "evictions": ("evictions", "How often weights were put out of memory."),
}


class Metrics:
    """The counters of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("tailorbird_http_requests", "Ended HTTP calls.", ["route", "method", "status"], registry=self.registry)
        self._seconds = Histogram(
            "tailorbird_http_request_seconds", "From first byte in to last byte out.", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self._overhead = Histogram(
            "tailorbird_gateway_overhead_seconds",
            "Time of a call not spent waiting for the engine.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._answers = Counter("tailorbird_answers", "Answers by how they ended.", ["outcome"], registry=self.registry)
        self._people = Counter(
            "tailorbird_answers_for_people", "Answers that are left to people, by why they are.", ["reason"], registry=self.registry
        )
        self._tokens = Counter("tailorbird_tokens", "Tokens read and written.", ["kind"], registry=self.registry)
        self._paid = Counter(
            "tailorbird_endpoint_money",
            "Money paid to endpoints for users' requests, as their servers told or as estimated.",
            ["usage"],
            registry=self.registry,
        )
        self._loops = Gauge("tailorbird_loop_failures", "Failed rounds of work in the background.", ["loop"], registry=self.registry)
        self._rollouts = Gauge("tailorbird_rollouts", "Rollouts by state.", ["state"], registry=self.registry)
        self._live = Gauge(
            "tailorbird_live_kpis", "Live KPIs of releases that answer users, by standing.", ["metric", "standing"], registry=self.registry
        )

    def show_rollouts(self, states: Mapping[RolloutState, int]) -> None:
        """Shows how many rollouts stand where."""
        for state, count in states.items():
            self._rollouts.labels(state.value).set(count)

    def show_live(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Shows how many live KPIs stand where."""
        self._live.clear()
        for (metric, standing), count in counts.items():
            self._live.labels(metric, standing).set(count)

    def watch(self, deployment: AliasSync, circuits: EndpointCircuits) -> None:
        """Shows, whenever asked, how many public names answer and how many lag behind the record, what the engine does, and how many
        endpoints say nothing."""
        self._watch_circuits(circuits)
        live = Gauge("tailorbird_aliases_live", "Public names that answer.", registry=self.registry)
        live.set_function(lambda: deployment.readiness().live)
        behind = Gauge("tailorbird_aliases_behind", "Public names that do not yet answer as the record says.", registry=self.registry)
        behind.set_function(lambda: deployment.readiness().behind)
        engine = Gauge("tailorbird_engine_up", "1 when the engine answered when last asked.", registry=self.registry)
        engine.set_function(lambda: float(deployment.readiness().engine))
        for name, (field, what) in _ENGINE.items():
            shown = Gauge(f"tailorbird_engine_{name}", what, registry=self.registry)
            shown.set_function(partial(_told, deployment, field))
        for name, (field, what) in _RELEASES.items():
            summed = Gauge(f"tailorbird_engine_{name}", what, registry=self.registry)
            summed.set_function(partial(_summed, deployment, field))

    def _watch_circuits(self, circuits: EndpointCircuits) -> None:
        silent = Gauge("tailorbird_endpoints_silent", "Endpoints that are asked by one request in a while.", registry=self.registry)
        silent.set_function(lambda: float(circuits.open))
        not_sent = Gauge("tailorbird_endpoint_requests_not_sent", "Requests that were not sent to those.", registry=self.registry)
        not_sent.set_function(lambda: float(circuits.not_sent))

    def watch_loops(self, loops: Sequence[Rounds]) -> None:
        """Shows, whenever asked, how many rounds of work in the background have failed."""
        for loop in loops:
            self._loops.labels(loop.name).set_function(partial(_failures, loop))

    def watch_shadow(self, shadow: ShadowTraffic) -> None:
        """Shows, whenever asked, how many requests were not mirrored."""
        dropped = Gauge("tailorbird_requests_not_mirrored", "Requests that too many others kept from a shadow.", registry=self.registry)
        dropped.set_function(lambda: float(shadow.dropped))

    def watch_effects(self, checks: Sequence[EffectChecks]) -> None:
        """Shows, whenever asked, of how many releases each replica of the engine showed what, and what loading them took."""
        shown = Gauge("tailorbird_release_effects", "Releases by what the engine showed of them.", ["standing"], registry=self.registry)
        for standing in EffectStanding:
            shown.labels(standing.value).set_function(partial(_standing, checks, standing))
        took = Gauge("tailorbird_release_load_seconds", "Seconds that loads of releases took, by part.", ["part"], registry=self.registry)
        for part in LOAD_PARTS:
            took.labels(part).set_function(partial(_load_seconds, checks, part))

    def count(self, route: str, method: str, status: int, seconds: float, overhead: float) -> None:
        """Counts an ended call. ``route`` is the pattern, never the path."""
        self._calls.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._overhead.labels(route).observe(overhead)

    def count_paid(self, bill: Bill) -> None:
        """Counts what an endpoint was paid for an answer, or for none."""
        if bill.paid:
            self._paid.labels("estimated" if bill.estimated else "told").inc(bill.paid)

    def count_answer(self, outcome: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Counts an answer and its tokens."""
        self._answers.labels(outcome).inc()
        self._tokens.labels("prompt").inc(prompt_tokens)
        self._tokens.labels("completion").inc(completion_tokens)

    def count_refusal(self, *, referred: bool, out_of_scope: bool) -> None:
        """Counts an answer that is left to people: no label fits, or the release is not sure or hands over."""
        if referred or out_of_scope:
            self._people.labels("out_of_scope" if out_of_scope else "referred").inc()


def _told(deployment: AliasSync, field: str) -> float:
    return float(getattr(deployment.engine_state, field))


def _failures(loop: Rounds) -> float:
    return float(loop.failures)


def _summed(deployment: AliasSync, field: str) -> float:
    return float(sum(getattr(one, field) for one in deployment.engine_state.releases))


def _standing(checks: Sequence[EffectChecks], standing: EffectStanding) -> float:
    return float(sum(reading.standing is standing for one in checks for reading in one.readings.values()))


def _load_seconds(checks: Sequence[EffectChecks], part: str) -> float:
    return sum(one.seconds[part] for one in checks)


def metrics_routes(
    metrics: Metrics, rollouts: Callable[[], Mapping[RolloutState, int]], live: Callable[[], Mapping[tuple[str, str], int]] = dict
) -> APIRouter:
    """``GET /metrics``. ``rollouts`` and ``live`` count rollouts and live KPIs and may wait for the record; where that cannot be read, what
    was last known is shown."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def show() -> Response:
        with suppress(TailorbirdError):
            metrics.show_rollouts(await run_in_threadpool(rollouts))
            metrics.show_live(await run_in_threadpool(live))
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
