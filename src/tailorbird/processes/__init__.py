"""The processes: the gateway, the engine it keeps alive, and workers."""

from tailorbird.processes.engine_process import SECRET_VARIABLE, run_engine, take_secret
from tailorbird.processes.engine_routes import engine_app
from tailorbird.processes.gateway import Listening, gateway_app, run_gateway, serve_beside
from tailorbird.processes.logs import LogFormat, set_up
from tailorbird.processes.scheduler import Schedule, doing, mind_the_time, sign_and_ship, watch_all
from tailorbird.processes.tls import Tls, tls_of
from tailorbird.processes.worker import StepWorker

__all__ = [
    "SECRET_VARIABLE",
    "Listening",
    "LogFormat",
    "Schedule",
    "StepWorker",
    "Tls",
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
