"""Our gateway process before engine processes: ``own_gateway.py WORKSPACE PORT SOCKET ...``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from own import ENGINE_SECRET

from support.serving import House
from tailorbird.domain.evidence import EffectProof
from tailorbird.integrations.loopback import open_driver
from tailorbird.ports.engine import LoadRequest
from tailorbird.processes import gateway
from tailorbird.processes.gateway import gateway_app
from tailorbird.processes.http_servers import Server, ended_by_signals, listen
from tailorbird.system.clock import SystemClock
from tailorbird.system.process import exempt_present_objects
from tailorbird.usecases.releases.load_verification import RecordedProofs


class KeptProofs(RecordedProofs):
    """Proofs of releases that nobody signed, as they stand in the workspace's proofs.json."""

    def proof(self, request: LoadRequest) -> EffectProof | None:
        told = json.loads((Path(sys.argv[1]) / "proofs.json").read_text()).get(request.release)
        return EffectProof.model_validate(told) if told else None


async def serve(workspace: Path, port: int, engines: Sequence[str]) -> None:
    gateway.RecordedProofs = KeptProofs  # type: ignore[misc]
    house = House.reopen(workspace)
    house.clock = SystemClock()  # type: ignore[assignment]
    drivers = [open_driver(f"unix:{engine}", ENGINE_SECRET) for engine in engines]
    with listen("127.0.0.1", port) as listener:
        server = Server(gateway_app(house.deps, drivers))
        exempt_present_objects()  # as the gateway's own start does
        with ended_by_signals(server):
            await server.serve(sockets=[listener])
    await asyncio.gather(*(driver.close() for driver in drivers))
    house.ledger.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
