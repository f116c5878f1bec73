"""Gateway metrics in Prometheus' text format."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.evidence import EffectStanding
from tailorbird.domain.rollout import RolloutState
from tailorbird.serving.effect_checks import EffectChecks
from tailorbird.serving.hosted_models import Bill, EndpointCircuits
from tailorbird.serving.reconciler import Reconciler
from tailorbird.serving.shadow_traffic import ShadowTraffic
from tailorbird.system.background_loop import Rounds

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


#: State of the engine: name in the metrics, field, meaning. By release there is nothing: a label has few values.
_ENGINE = {
    "requests_running": ("running", "Requests that the engine works on."),
    "requests_waiting": ("waiting", "Requests that wait for the engine."),
    "kv_tokens": ("kv_tokens", "Room for keys and values, in tokens."),
    "kv_tokens_used": ("kv_tokens_used", "Tokens of keys and values in use."),
    "prefix_queries": ("prefix_queries", "Prompt tokens looked up in the prefix cache."),
    "prefix_hits": ("prefix_hits", "Prompt tokens found in the prefix cache."),
    "prompt_tokens": ("prompt_tokens", "Prompt tokens computed."),
    "generated_tokens": ("generated_tokens", "Tokens generated."),
    "memory_bytes": ("memory_used", "Memory of weights, indexes and encoders."),
    "memory_budget_bytes": ("memory_budget", "Budget of memory for weights, indexes and encoders."),
}


#: The same of its releases, summed.
_RELEASES = {
    "releases_resident": ("resident", "Releases with their weights in memory."),
    "releases_pinned": ("pinned", "Releases that stay there whatever the budget."),
    "loads": ("loads", "Loads of weights into memory."),
    "load_seconds": ("load_seconds", "Seconds that bringing weights into memory took."),
    "evictions": ("evictions", "Evictions of weights from memory."),
}


class Metrics:
    """The counters of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._samplers: list[Callable[[], None]] = []
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

    def show_rollouts(self, states: Mapping[RolloutState, int]) -> None:
        """Shows how many rollouts stand where."""
        for state, count in states.items():
            self._rollouts.labels(state.value).set(count)

    def watch(self, deployment: Reconciler, circuits: EndpointCircuits, shadow: ShadowTraffic, checks: Sequence[EffectChecks]) -> None:
        """Shows how many public names answer and how many lag behind the record, what the engine does, of how many releases each replica
        of it showed what, how many endpoints are asked no more, and how many requests were not mirrored."""
        live = self._gauge("aliases_live", "Public names that answer.")
        behind = self._gauge("aliases_behind", "Public names that do not yet answer as the record says.")
        up = self._gauge("engine_up", "1 when the engine answered when last asked.")
        engine = {field: self._gauge(f"engine_{name}", what) for name, (field, what) in _ENGINE.items()}
        releases = {field: self._gauge(f"engine_{name}", what) for name, (field, what) in _RELEASES.items()}
        silent = self._gauge("endpoints_silent", "Endpoints whose circuit breaker is open.")
        not_sent = self._gauge("endpoint_requests_not_sent", "Requests that were not sent to endpoints whose circuit breaker is open.")
        dropped = self._gauge("requests_not_mirrored", "Requests that too many others kept from a shadow.")
        shown = Gauge("tailorbird_release_effects", "Releases by what the engine showed of them.", ["standing"], registry=self.registry)

        def sample() -> None:
            ready, state = deployment.readiness(), deployment.engine_state
            for gauge, value in ((live, ready.live), (behind, ready.behind), (up, ready.engine)):
                gauge.set(value)
            for field, gauge in engine.items():
                gauge.set(getattr(state, field))
            for field, gauge in releases.items():
                gauge.set(sum(getattr(one, field) for one in state.releases))
            silent.set(circuits.open)
            not_sent.set(circuits.not_sent)
            dropped.set(shadow.dropped)
            standings = Counts(reading.standing for one in checks for reading in one.readings.values())
            for standing in EffectStanding:
                shown.labels(standing.value).set(standings[standing])

        self._samplers.append(sample)

    def watch_loops(self, loops: Sequence[Rounds]) -> None:
        """Shows how many rounds of work in the background have failed."""

        def sample() -> None:
            for loop in loops:
                self._loops.labels(loop.name).set(loop.failures)

        self._samplers.append(sample)

    def sample(self) -> None:
        """Takes the values of what is watched, once each. On the event loop: what is watched changes there."""
        for sample in self._samplers:
            sample()

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"tailorbird_{name}", what, registry=self.registry)

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


def metrics_routes(metrics: Metrics, rollouts: Callable[[], Mapping[RolloutState, int]]) -> APIRouter:
    """``GET /metrics``. ``rollouts`` counts rollouts and may wait for the record; where that cannot be read, what was last known is
    shown."""
    router = APIRouter()

    @router.get("/metrics", include_in_schema=False)
    async def show() -> Response:
        with suppress(TailorbirdError):
            metrics.show_rollouts(await run_in_threadpool(rollouts))
        metrics.sample()
        # In a thread: answers do not wait while a thousand lines are written.
        return Response(await run_in_threadpool(generate_latest, metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router
