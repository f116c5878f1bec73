"""Our engine process for adapters of one encoder, on plain folders: ``encoder_engine.py WORKSPACE SOCKET MEMORY_MB``.

Which release is which folder stands in the workspace's servables.json, with the encoder that all share.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

from own import ENGINE_SECRET

from support.serving import House
from tailorbird.domain.deployment import Servable
from tailorbird.ports.engine import LiveEngine, LoadRequest
from tailorbird.processes.engine_process import serve_engine


def admit(house: House, folders: dict[str, str], request: LoadRequest) -> Servable:
    return house.admit(request).model_copy(update={"base": "", "encoder": folders["encoder"], "floor": folders[request.release]})


def open_engine() -> LiveEngine:
    # Imported late: what the process sets for torch's threads must be set before torch is imported.
    return import_module("tailorbird.inference").open_engine("auto", memory_mb=int(sys.argv[3]))  # type: ignore[no-any-return]


if __name__ == "__main__":
    house = House.reopen(Path(sys.argv[1]))
    read = json.loads((house.folder / "servables.json").read_text())
    serve_engine(open_engine, partial(admit, house, read), Path(sys.argv[2]), ENGINE_SECRET)
