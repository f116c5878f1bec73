"""Serving: which release answers whom, kept true while releases move; answers; what may be used up; and the row every request leaves."""

from tailorbird.serving.alias_routes import AliasRoute, AliasRoutes, TrafficArm, choose, unit_of
from tailorbird.serving.alias_sync import AliasSync, Readiness
from tailorbird.serving.answers import AnswerPiece, AnswerService, RankedDocument
from tailorbird.serving.heartbeat import GONE_AFTER
from tailorbird.serving.quotas import LimitRemaining, Quotas, Reservation
from tailorbird.serving.request_log import KeptRequest, Redact, RequestLog, amounts_of
from tailorbird.serving.rollout_guards import judge, live_findings, segments, unproven
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
    "choose",
    "judge",
    "live_findings",
    "segments",
    "unit_of",
    "unproven",
]
