"""A gateway process: ``gateway_process.py WORKSPACE PORT [broken]``; with ``engine`` first, its engine. No model is involved."""

from __future__ import annotations

import sys

if sys.argv[1] == "engine" and sys.argv[-1] == "broken":
    sys.exit(3)

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.doubles import MemoryEngine
from support.serving import House
from support.workspace_ledger import SQLITE
from tailorbird.domain.errors import TailorbirdError
from tailorbird.integrations.loopback import open_driver
from tailorbird.processes import engine_process as engine
from tailorbird.processes.engine_process import run_engine, take_secret
from tailorbird.processes.gateway import Listening, run_gateway

LOG_FORMAT: Any = os.environ.get("TEST_LOG_FORMAT", "text")


def reopened(workspace: str) -> House:
    return House(Path(workspace), new=False, ledger_kind=os.environ.get("TEST_DATABASE", SQLITE))


def gateway(workspace: str, port: str, *flags: str) -> None:
    house = reopened(workspace)

    def engine_command(place: Path) -> list[str]:
        return [sys.executable, __file__, "engine", workspace, str(place), *flags]

    if seconds := os.environ.get("TEST_HUNG_AFTER"):
        engine._ASK_EVERY, engine._HUNG_AFTER = float(seconds) / 4, float(seconds)
    run_gateway(house.deps, Listening(port=int(port), log_format=LOG_FORMAT), open_driver, engine_command)


def engine_process(workspace: str, place: str) -> None:
    house = reopened(workspace)
    engine.admit = lambda _parts, request: house.admit(request)  # the rule itself is tested where it is written
    deps: Any = SimpleNamespace(engine=lambda: MemoryEngine(delay=0.02))
    run_engine(deps, Path(place), take_secret(), LOG_FORMAT)


if __name__ == "__main__":
    try:
        engine_process(*sys.argv[2:]) if sys.argv[1] == "engine" else gateway(*sys.argv[1:])
    except TailorbirdError as error:
        sys.exit(f"error[{error.error_code}]: {error.message}")
