"""Serving: which release answers whom, kept true while releases move; answers; what may be used up; and the row every request leaves."""

from tailorbird.serving.answering import Answering, Piece, RankedDocument
from tailorbird.serving.choice import choose, unit_of
from tailorbird.serving.deployment import Deployment, Readiness
from tailorbird.serving.journal import Kept, Redact, RequestJournal, amounts_of
from tailorbird.serving.judging import judge, segments
from tailorbird.serving.life import GONE_AFTER
from tailorbird.serving.live import live_findings, unproven
from tailorbird.serving.mirroring import Mirror, Mirrored
from tailorbird.serving.quotas import Left, Quotas, Reservation
from tailorbird.serving.routes import Arm, Route, Routes

__all__ = [
    "GONE_AFTER",
    "Answering",
    "Arm",
    "Deployment",
    "Kept",
    "Left",
    "Mirror",
    "Mirrored",
    "Piece",
    "Quotas",
    "RankedDocument",
    "Readiness",
    "Redact",
    "RequestJournal",
    "Reservation",
    "Route",
    "Routes",
    "amounts_of",
    "choose",
    "judge",
    "live_findings",
    "segments",
    "unit_of",
    "unproven",
]
