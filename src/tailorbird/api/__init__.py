"""The HTTP face: OpenAI-compatible routes, the control plane, health, metrics, errors in one shape.

In: requests. Out: answers. Engines and tables it knows only as ports.
"""

from tailorbird.api.account import Books
from tailorbird.api.asking import Chat
from tailorbird.api.authentication import Authenticator
from tailorbird.api.call import Observed
from tailorbird.api.chat import chat_routes
from tailorbird.api.control import control_routes
from tailorbird.api.errors import add_error_handlers
from tailorbird.api.health import health_routes
from tailorbird.api.metrics import Metrics, metrics_routes
from tailorbird.api.model_list import model_routes
from tailorbird.api.reference import reference_routes
from tailorbird.api.streaming import ClosingStream, unless_gone

__all__ = [
    "Authenticator",
    "Books",
    "Chat",
    "ClosingStream",
    "Metrics",
    "Observed",
    "add_error_handlers",
    "chat_routes",
    "control_routes",
    "health_routes",
    "metrics_routes",
    "model_routes",
    "reference_routes",
    "unless_gone",
]
