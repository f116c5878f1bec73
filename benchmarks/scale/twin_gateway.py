"""A gateway process on a record of several, its engine an in-memory twin in a process of its own: ``twin_gateway.py FOLDER DATABASE PORT``.

With ``engine`` first, the engine. The gateway, the driver, the engine's server and the wire between them are the product's own; the twin
answers with the short digest of the release that it was asked for, so that an answer by another shows.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "tests")]

from support.doubles import MemoryEngine  # noqa: E402
from support.serving import House  # noqa: E402 - found in the tests
from tailorbird.integrations.loopback import open_driver  # noqa: E402
from tailorbird.processes.gateway import Listening, run_gateway
from tailorbird.processes import engine_process
from tailorbird.processes.engine_process import run_engine, take_secret  # noqa: E402
from tailorbird.system.clock import SystemClock  # noqa: E402


def house_of(folder: Path, database: str, *, new: bool = False) -> House:
    """The record, by the clock of this machine."""
    house = House(folder, new=new, ledger_kind=database)
    house.clock = SystemClock()  # type: ignore[assignment]
    return house


def gateway(folder: str, database: str, port: str) -> None:
    """Serves until it is ended."""

    def engine_command(place: Path) -> list[str]:
        return [sys.executable, __file__, "engine", folder, database, str(place)]

    run_gateway(house_of(Path(folder), database).deps, Listening(port=int(port)), open_driver, engine_command)


def engine(folder: str, database: str, place: str) -> None:
    """Serves the twin until it is ended, or its gateway is gone."""
    house = house_of(Path(folder), database)
    engine_process.admit = lambda _parts, request: house.admit(request)
    deps: Any = SimpleNamespace(engine=MemoryEngine)
    run_engine(deps, Path(place), take_secret())


if __name__ == "__main__":
    engine(*sys.argv[2:]) if sys.argv[1] == "engine" else gateway(*sys.argv[1:])
