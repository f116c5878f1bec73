"""Serving: which release answers whom, the answer, quotas, and the row that every request leaves.

In: the ledger's aliases and rollouts, an engine driver, conversations. Out: answers, request rows, usage, guard reports. Must not know:
HTTP, how a release was made.

    alias_changes > alias_sync (alias_record, release_loader, heartbeat) > alias_routes: moves become routes once their release is loaded
    engine_replicas > effect_checks: the engine's drivers, which load what has shown its effect
    quotas > alias_routes > answers (fallback, hosted_driver, shadow_traffic) > request_log: one request
    hosted_driver > endpoint_budgets > bills: what a hosted model is paid for it; endpoint_circuits: whether it is asked
    request rows > rollout_guards: what follows for a rollout
"""

from tailorbird.serving.alias_record import GONE_AFTER
from tailorbird.serving.alias_routes import AliasRoute, AliasRoutes, TrafficArm, choose_target, experiment_unit
from tailorbird.serving.alias_sync import AliasSync, Readiness
from tailorbird.serving.answers import AnswerPiece, Answers, AnswerService, RankedDocument, told_text, with_fallback
from tailorbird.serving.effect_checks import LOAD_PARTS, EffectChecks, EffectProofs, unlike
from tailorbird.serving.endpoint_circuits import NOT_ASKED, Bill, EndpointCircuits, billed
from tailorbird.serving.engine_replicas import EngineReplicas
from tailorbird.serving.hosted_driver import STOOD_IN_FOR, HostedAccess, HostedDriver
from tailorbird.serving.quotas import LimitRemaining, Quotas, Reservation
from tailorbird.serving.request_log import KeptRequest, Redact, RequestLog, amounts_of
from tailorbird.serving.rollout_guards import evaluate_guards, live_findings, segments, unproven_kpis
from tailorbird.serving.shadow_traffic import ShadowedRequest, ShadowTraffic, is_malformed

__all__ = [
    "GONE_AFTER",
    "LOAD_PARTS",
    "NOT_ASKED",
    "STOOD_IN_FOR",
    "AliasRoute",
    "AliasRoutes",
    "AliasSync",
    "AnswerPiece",
    "AnswerService",
    "Answers",
    "Bill",
    "EffectChecks",
    "EffectProofs",
    "EndpointCircuits",
    "EngineReplicas",
    "HostedAccess",
    "HostedDriver",
    "KeptRequest",
    "LimitRemaining",
    "Quotas",
    "RankedDocument",
    "Readiness",
    "Redact",
    "RequestLog",
    "Reservation",
    "ShadowTraffic",
    "ShadowedRequest",
    "TrafficArm",
    "amounts_of",
    "billed",
    "choose_target",
    "evaluate_guards",
    "experiment_unit",
    "is_malformed",
    "live_findings",
    "segments",
    "told_text",
    "unlike",
    "unproven_kpis",
    "with_fallback",
]
