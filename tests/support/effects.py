"""Adapters as an engine that maps them wrongly has them: what a proof of effect must refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from support.serving import DirectDriver
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.evidence import EffectProof
from tailorbird.ports.engine import LoadRequest, LocalEngine
from tailorbird.rungs import module_kinds, without_kind
from tailorbird.rungs.training import without

#: The faults that every driver must refuse; then each kind of module that is left out alone.
FAULTS = ("dropped", "another", "half of the layers", "twice the scale", "half of the scale")
KINDS = ("q_proj", "v_proj", "down_proj")


def faulty(servable: Servable, fault: str, folder: Path, another: Path) -> Servable:
    """``servable`` as an engine with that fault has it."""
    adapter, target = Path(str(servable.adapter)), folder / fault.replace(" ", "-")
    if fault == "dropped":
        return servable.model_copy(update={"adapter": None})
    if fault == "another":
        return servable.model_copy(update={"adapter": str(another)})
    if fault == "half of the layers":
        without(adapter, target, lambda module: layer_of(module) % 2 == 1)
    elif fault.endswith("the scale"):
        shutil.copytree(adapter, target)
        config = json.loads((target / "adapter_config.json").read_text())
        config["lora_alpha"] *= 2 if fault.startswith("twice") else 0.5
        (target / "adapter_config.json").write_text(json.dumps(config))
    else:
        assert fault in module_kinds(adapter)
        without_kind(adapter, target, fault)
    return servable.model_copy(update={"adapter": str(target)})


def layer_of(module: str) -> int:
    """Number of the layer that a module is part of."""
    return int(next(part for part in module.split(".") if part.isdigit()))


class FaultyDriver(DirectDriver):
    """A driver whose engine says that it loaded what it was given, and has something else."""

    def __init__(self, engine: LocalEngine, servable: Servable) -> None:
        self.engine, self.given = engine, servable
        self.loads, self.unloads, self.away = [], [], None

    async def load(self, request: LoadRequest) -> None:
        self._check()
        self.loads.append(request.release)
        self.engine.load(self.given)


class ToldProofs:
    """Proofs at hand; ``refusals`` are those that were told of."""

    def __init__(self, proof: EffectProof | None) -> None:
        self.given, self.refusals = proof, list[str]()

    def proof(self, request: LoadRequest) -> EffectProof | None:
        del request
        return self.given

    def refused(self, request: LoadRequest, error: TailorbirdError) -> None:
        del request
        self.refusals.append(error.error_code)


def write_twin_adapter(folder: Path, seed: int, kinds: Sequence[str] = KINDS, layers: int = 2) -> Path:
    """An adapter in PEFT's format, of one number a tensor, for the twin, which computes with none of them."""
    folder.mkdir(parents=True)
    drawn, header, content = np.random.default_rng(seed), dict[str, object](), b""
    for layer in range(layers):
        for kind in kinds:
            for half in ("A", "B"):
                tensor = drawn.standard_normal(1).astype(np.float32).tobytes()
                span = [len(content), len(content) + len(tensor)]
                name = f"base_model.model.model.layers.{layer}.x.{kind}.lora_{half}.weight"
                header[name] = {"dtype": "F32", "shape": [1, 1], "data_offsets": span}
                content += tensor
    told = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(len(told).to_bytes(8, "little") + told + content)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2}))
    return folder
