"""Serving: which release answers whom, kept true while releases move; answers; what may be used up; and the row every request leaves."""

from tailorbird.serving.alias_routes import AliasRoute, AliasRoutes, TrafficArm, choose_target, experiment_unit
from tailorbird.serving.alias_sync import AliasSync, Readiness
from tailorbird.serving.answers import AnswerPiece, AnswerService, RankedDocument
from tailorbird.serving.heartbeat import GONE_AFTER
from tailorbird.serving.quotas import LimitRemaining, Quotas, Reservation
from tailorbird.serving.request_log import KeptRequest, Redact, RequestLog, amounts_of
from tailorbird.serving.rollout_guards import evaluate_guards, live_findings, segments, unproven_kpis
from tailorbird.serving.shadow_traffic import ShadowedRequest, ShadowTraffic

__all__ = [
    "GONE_AFTER",
    "AliasRoute",
    "AliasRoutes",
    "AliasSync",
    "AnswerPiece",
    "AnswerService",
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
    "choose_target",
    "evaluate_guards",
    "experiment_unit",
    "live_findings",
    "segments",
    "unproven_kpis",
]
