"""The processes: the gateway, the engine it keeps alive, and workers."""

from tailorbird.app.engine import SECRET_VARIABLE, run_engine, take_secret
from tailorbird.app.engine_app import engine_app
from tailorbird.app.gateway import gateway_app, run_gateway
from tailorbird.app.worker import Worker

__all__ = ["SECRET_VARIABLE", "Worker", "engine_app", "gateway_app", "run_engine", "run_gateway", "take_secret"]
