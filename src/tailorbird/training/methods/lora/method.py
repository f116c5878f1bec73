"""LoRA: frozen weights, small fp32 adapters on chosen linear layers.

In: a base model and settings. Out: the model with adapters, and the adapter in PEFT format. Must not know: the loop, batches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.foundations.text import nearest
from tailorbird.training.methods.lora.adapter_files import write_adapter
from tailorbird.training.methods.lora.linear import LoraLinear
from tailorbird.training.methods.registry import Learner


class Lora:
    """Adapters of rank ``settings.lora.rank`` on every linear layer named in ``settings.lora.targets``, scaled by alpha / rank."""

    name = "lora"

    #: Frozen weights need no more precision than they are multiplied in.
    master_weights = False

    def check(self, learner: Learner) -> None:
        """Raises InvalidInput: no adapter settings, a rank that is no low rank, a layer that does not exist."""
        lora, hidden = _shape(learner.settings), learner.model.config.hidden_size
        if not 1 <= lora.rank <= hidden:
            raise InvalidInput(
                f"rank {lora.rank} does not lie between 1 and the model's hidden size, {hidden}",
                "choose a rank of 8 to 64; where that is too little, train all weights (method full)",
                code="rank_out_of_range",
            )
        known = {path.rpartition(".")[2] for path in _linear_layers(learner.model)}
        for target in lora.targets:
            if target not in known:
                near = nearest(target, known)
                hint = f"did you mean {near}?" if near else f"this model has: {', '.join(sorted(known))}"
                raise InvalidInput(f"the model has no linear layer named {target}", hint, code="target_unknown")

    def prepare(self, learner: Learner) -> dict[str, nn.Parameter]:
        """Freezes all weights and puts an adapter beside each target, in the order of the model's layers."""
        lora, model = _shape(learner.settings), learner.model
        model.requires_grad_(False)
        for path, linear in _linear_layers(model).items():
            parent, _, name = path.rpartition(".")
            if name in lora.targets:
                setattr(model.get_submodule(parent), name, LoraLinear(linear, lora.rank, lora.alpha / lora.rank))
        return {f"{path}.{side}": getattr(layer, side) for path, layer in _adapted_layers(model).items() for side in ("A", "B")}

    def save(self, learner: Learner, folder: Path) -> None:
        """The adapter alone, in PEFT format."""
        write_adapter(_adapted_layers(learner.model), _shape(learner.settings), folder)


def _shape(settings: TrainingSettings) -> LoraSettings:
    if settings.lora is None or not settings.lora.targets:
        raise InvalidInput(
            "LoRA was asked for without a rank and target layers", "give the settings a lora section with targets", code="lora_missing"
        )
    return settings.lora


def _linear_layers(model: Any) -> dict[str, nn.Linear]:
    """Linear layers by path, the output head left out: serving engines load no adapter there."""
    head = model.get_output_embeddings()
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head}


def _adapted_layers(model: PreTrainedModel) -> dict[str, LoraLinear]:
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LoraLinear)}
