"""Our engine process on plain folders: ``own_engine.py WORKSPACE SOCKET MEMORY_MB PRECISION ADAPTERS``.

Which release is which folder stands in the workspace's servables.json.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

from own import ENGINE_SECRET, base_folder

from support.serving import House
from tailorbird.domain.deployment import Servable
from tailorbird.ports.engine import LiveEngine, LoadRequest
from tailorbird.processes.engine_process import serve_engine


def admit(house: House, request: LoadRequest) -> Servable:
    folders = json.loads((house.folder / "servables.json").read_text())
    return house.admit(request).model_copy(update={"base": base_folder(), "adapter": folders[request.release]})


def open_engine() -> LiveEngine:
    # Imported late: what the process sets for torch's threads must be set before torch is imported.
    make = import_module("tailorbird.inference").open_engine
    return make(sys.argv[4], memory_mb=int(sys.argv[3]))  # type: ignore[no-any-return]


if __name__ == "__main__":
    house = House.reopen(Path(sys.argv[1]))
    serve_engine(open_engine, partial(admit, house), Path(sys.argv[2]), ENGINE_SECRET)
