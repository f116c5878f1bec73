"""Our engine process on plain folders: ``own_engine.py PORT BASE ADAPTERS``. Release 0 is the base, release N + 1 the adapter N."""

from __future__ import annotations

import asyncio
import sys

from engines import SECRET
from tailorbird.app import engine_app
from tailorbird.app.servers import Server, ended_by_signals, listen
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.inference import open_engine
from tailorbird.ports.engine import LoadRequest


def admit(request: LoadRequest) -> Servable:
    number, adapters = int(request.release.removeprefix("sha256:"), 16), sys.argv[3]
    return Servable(
        id=request.release,
        tenant=request.tenant,
        task=TaskKind.GENERATE,
        base=sys.argv[2],
        adapter=f"{adapters}/{number - 1}" if number else None,
        weights=None,
        prompt=PromptSpec(instruction=""),
    )


async def serve(port: int) -> None:
    with listen("127.0.0.1", port) as listener:
        server = Server(engine_app(open_engine(), admit, SECRET))
        with ended_by_signals(server):
            await server.serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
