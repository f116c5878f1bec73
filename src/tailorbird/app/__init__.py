"""The processes: the gateway, the engine it keeps alive, and workers."""

from tailorbird.app.chores import Schedule, doing, mind_the_time, sign_and_ship, watch_all
from tailorbird.app.engine import SECRET_VARIABLE, run_engine, take_secret
from tailorbird.app.engine_app import engine_app
from tailorbird.app.gateway import Listening, gateway_app, run_gateway, serve_beside
from tailorbird.app.logs import LogFormat, set_up
from tailorbird.app.tls import Tls, tls_of
from tailorbird.app.worker import Worker

__all__ = [
    "SECRET_VARIABLE",
    "Listening",
    "LogFormat",
    "Schedule",
    "Tls",
    "Worker",
    "doing",
    "engine_app",
    "gateway_app",
    "mind_the_time",
    "run_engine",
    "run_gateway",
    "serve_beside",
    "set_up",
    "sign_and_ship",
    "take_secret",
    "tls_of",
    "watch_all",
]
