"""Request-id context variable, for the logs of every process that serves the request."""

from __future__ import annotations

from contextvars import ContextVar

#: Id of the request that is being worked on; empty outside requests.
request_id: ContextVar[str] = ContextVar("tailorbird.request_id", default="")

#: The header that carries it from the gateway to the engine.
REQUEST_ID_HEADER = "x-request-id"
