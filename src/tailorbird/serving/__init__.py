"""Serving: which release answers whom, kept true while releases move; answers; and the row every request leaves."""

from tailorbird.serving.answering import Answering, Piece
from tailorbird.serving.choice import choose
from tailorbird.serving.deployment import Deployment, Readiness
from tailorbird.serving.journal import RequestJournal
from tailorbird.serving.routes import Arm, Route, Routes

__all__ = ["Answering", "Arm", "Deployment", "Piece", "Readiness", "RequestJournal", "Route", "Routes", "choose"]
