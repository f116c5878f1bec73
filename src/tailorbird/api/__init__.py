"""HTTP API: OpenAI-compatible routes, the use cases below ``/api``, health, metrics, one shape of errors.

In: HTTP requests. Out: HTTP responses, request records. Must not know: engines and tables, but as ports.

    authentication > v1_routes > generation_requests, retrieval_requests > answer_endpoint > response_formats > request_record
    authentication > usecase_routes, sessions, artifacts > the registry of use cases
"""

from tailorbird.api.answer_endpoint import AnswerContext, ClosingStream, unless_gone
from tailorbird.api.authentication import Authenticator
from tailorbird.api.errors import add_error_handlers
from tailorbird.api.health import health_routes
from tailorbird.api.metrics import Metrics, metrics_routes
from tailorbird.api.openapi import reference_routes
from tailorbird.api.request_context import RequestObserver
from tailorbird.api.request_record import RecordingContext
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
