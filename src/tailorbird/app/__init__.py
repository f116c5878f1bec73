"""The processes: the gateway, and the engine it keeps alive."""

from tailorbird.app.engine import SECRET_VARIABLE, run_engine, take_secret
from tailorbird.app.engine_app import engine_app
from tailorbird.app.gateway import gateway_app, run_gateway

__all__ = ["SECRET_VARIABLE", "engine_app", "gateway_app", "run_engine", "run_gateway", "take_secret"]
