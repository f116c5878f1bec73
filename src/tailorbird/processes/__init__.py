"""Processes: the gateway with its engine process, and workers.

In: dependencies, addresses, certificates. Out: running servers and workers that end gracefully. Must not know: what a use case does.

    gateway > http_servers (tls, connections) > api;   gateway > engine_process > engine_routes > async_engine > the engine
    gateway, worker > scheduler: background schedules
"""

from tailorbird.processes.engine_process import SECRET_VARIABLE, engine_app, run_engine, take_secret
from tailorbird.processes.gateway import Listening, gateway_app, run_gateway, run_gateway_with_drivers
from tailorbird.processes.http_servers import Tls, tls_of
from tailorbird.processes.logs import LogFormat, set_up_logging
from tailorbird.processes.worker import (
    Schedule,
    StepWorker,
    check_production,
    clear_erased,
    raise_clock_floor,
    run_schedules,
    sign_and_ship,
)

__all__ = [
    "SECRET_VARIABLE",
    "Listening",
    "LogFormat",
    "Schedule",
    "StepWorker",
    "Tls",
    "check_production",
    "clear_erased",
    "engine_app",
    "gateway_app",
    "raise_clock_floor",
    "run_engine",
    "run_gateway",
    "run_gateway_with_drivers",
    "run_schedules",
    "set_up_logging",
    "sign_and_ship",
    "take_secret",
    "tls_of",
]
