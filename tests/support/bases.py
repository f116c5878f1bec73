"""Two toy base models, and an engine that tells them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.doubles import MemoryEngine, MemoryModelReader, MemoryTrainer
from support.doubles.model_reader import toy_encoder
from support.usecases import write_objective
from tailorbird import wiring
from tailorbird.base_models import ModelCache
from tailorbird.base_models.catalogue import entry_named
from tailorbird.base_models.model_cache import make_once
from tailorbird.base_models.pull import _folder_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.deployment import Servable
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LabelScores
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.runs import snapshot_and_plan


def install_encoder(deps: Dependencies, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts an encoder into the catalogue, which plans may name."""
    (folder / "encoder").mkdir()
    (folder / "encoder" / "config.json").write_text("{}", encoding="utf-8")
    tree = deps.artifacts.put_tree(folder / "encoder")
    known = {"name": "mini", "digest": tree, "tokenizer_digest": tree, "chat_template_digest": tree, "license": "Apache-2.0"}
    shape = dict.fromkeys(("parameters", "hidden", "layers", "vocabulary", "context", "intermediate"), 1)
    encoder = BaseModelRef.model_validate({**known, **shape, "linear_shapes": {}, "encoder": toy_encoder().description})
    monkeypatch.setattr(snapshot_and_plan, "installed_encoder", lambda _stage: encoder)


def two_bases(folder: Path, **changes: object) -> Path:
    """An objective with the toy model and a wider one."""
    path = write_objective(folder, **{"base_models": ["base", "wide"]} | changes)
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("base_model:")))
    wide = folder / "wide"
    wide.mkdir()
    for file in (folder / "base").iterdir():
        (wide / file.name).write_bytes(file.read_bytes())
    config = json.loads((wide / "config.json").read_text())
    (wide / "config.json").write_text(json.dumps(config | {"hidden_size": 16}))
    return path


class Biased(MemoryEngine):
    """An engine whose toy model of one width always chooses the first label."""

    def __init__(self, weak_width: int = 8) -> None:
        super().__init__()
        self.weak_width = weak_width
        self.seen: dict[Digest, Servable] = {}

    def load(self, servable: Servable, *, pinned: bool = False) -> None:
        self.seen[servable.id] = servable
        super().load(servable, pinned=pinned)

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        found = super().score(servable, prompts, labels)
        if json.loads((Path(self.seen[servable].base) / "config.json").read_text())["hidden_size"] != self.weak_width:
            return found
        always = tuple(-0.1 if place == 0 else -5.0 for place, _ in enumerate(labels))
        return [one.model_copy(update={"log_probabilities": always}) for one in found]


def author_of(deps: Dependencies) -> Actor:
    return act_as(deps, "acme", "author")


def place_twin(name: str, cache: ModelCache) -> Path:
    """Puts a twin where the base model ``name`` of the catalogue lies once it was pulled."""
    entry = entry_named(name)
    assert entry is not None
    return make_once(_folder_of(entry, cache), lambda folder: MemoryModelReader().convert(folder, folder, entry.encoder), lambda _: None)


def use_twins(patch: pytest.MonkeyPatch) -> None:
    """What needs torch is a twin in every workspace that is opened from now on."""
    engine, trainer = MemoryEngine(), MemoryTrainer()
    patch.setattr(wiring, "open_engine", lambda _: engine)
    patch.setattr(wiring, "_trainer", lambda _: trainer)
    patch.setattr(wiring, "_model_reader", MemoryModelReader)
