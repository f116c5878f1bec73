"""The HTTP face: OpenAI-compatible routes, the control plane, health, metrics, errors in one shape.

In: requests. Out: answers. Engines and tables it knows only as ports.
"""

from tailorbird.api.answer_endpoint import AnswerContext
from tailorbird.api.authentication import Authenticator
from tailorbird.api.errors import add_error_handlers
from tailorbird.api.health import health_routes
from tailorbird.api.metrics import Metrics, metrics_routes
from tailorbird.api.openapi import reference_routes
from tailorbird.api.request_context import RequestObserver
from tailorbird.api.request_record import RecordingContext
from tailorbird.api.streaming import ClosingStream, unless_gone
from tailorbird.api.usecase_routes import control_routes
from tailorbird.api.v1_routes import chat_routes, model_routes

__all__ = [
    "AnswerContext",
    "Authenticator",
    "ClosingStream",
    "Metrics",
    "RecordingContext",
    "RequestObserver",
    "add_error_handlers",
    "chat_routes",
    "control_routes",
    "health_routes",
    "metrics_routes",
    "model_routes",
    "reference_routes",
    "unless_gone",
]
