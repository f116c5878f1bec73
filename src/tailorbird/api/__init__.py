"""HTTP API: OpenAI-compatible routes, the use cases below ``/api``, health, metrics, one shape of errors.

In: HTTP requests. Out: HTTP responses, request records. Must not know: engines and tables, but as ports.

    authentication > answers > openai, responses > request_record
    authentication > control > the registry of use cases
"""

from tailorbird.api.answers import AnswerContext, chat_routes, model_routes
from tailorbird.api.authentication import Authenticator
from tailorbird.api.control import control_routes, health_routes
from tailorbird.api.errors import add_error_handlers
from tailorbird.api.http import ClosingStream, RequestObserver, unless_gone
from tailorbird.api.metrics import Metrics, metrics_routes
from tailorbird.api.request_record import RecordingContext

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
    "unless_gone",
]
