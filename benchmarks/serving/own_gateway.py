"""Our gateway process before an engine process: ``own_gateway.py WORKSPACE PORT SOCKET``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from own import ENGINE_SECRET

from support.serving import House
from tailorbird.integrations.loopback import open_driver
from tailorbird.processes import gateway_app
from tailorbird.processes.http_servers import Server, ended_by_signals, listen
from tailorbird.system.clock import SystemClock


async def serve(workspace: Path, port: int, engine: Path) -> None:
    house = House.reopen(workspace)
    house.clock = SystemClock()  # type: ignore[assignment]
    driver = open_driver(f"unix:{engine}", ENGINE_SECRET)
    with listen("127.0.0.1", port) as listener:
        server = Server(gateway_app(house.deps, driver))
        with ended_by_signals(server):
            await server.serve(sockets=[listener])
    await driver.close()
    house.ledger.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
