"""LoRA: frozen weights, small fp32 adapters on chosen linear layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.text.normalisation import nearest
from tailorbird.training.methods.lora.adapter_files import write_adapter
from tailorbird.training.methods.lora.dora import DoraLinear
from tailorbird.training.methods.lora.linear import LoraLinear
from tailorbird.training.methods.registry import Learner
from tailorbird.training.network import read_model


class Lora:
    """Adapters of rank ``settings.lora.rank`` on every linear layer named in ``settings.lora.targets``.

    Options of the settings: ``rslora`` (another scaling), ``dora`` (magnitudes trained apart), ``b_rate`` (B learns faster than A: LoRA+,
    Hayou et al. 2024, arXiv:2402.12354).
    """

    name = "lora"

    #: Frozen weights need no more precision than they are multiplied in.
    master_weights = False
    divisible = True

    def read(self, folder: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """The model as it is. Raises ModelInvalid."""
        return read_model(folder, dtype, device)

    def check(self, learner: Learner) -> None:
        """Raises InvalidInput: no adapter settings, a rank that is no low rank, a layer that does not exist."""
        lora, hidden = shape_of(learner.settings), learner.model.config.hidden_size
        if not 1 <= lora.rank <= hidden:
            raise InvalidInput(
                f"rank {lora.rank} does not lie between 1 and the model's hidden size, {hidden}",
                "choose a rank of 8 to 64; where that is too little, train all weights (method full)",
                code="rank_out_of_range",
            )
        known = {path.rpartition(".")[2] for path in linear_layers(learner.model)}
        for target in lora.targets:
            if target not in known:
                near = nearest(target, known)
                hint = f"did you mean {near}?" if near else f"this model has: {', '.join(sorted(known))}"
                raise InvalidInput(f"the model has no linear layer named {target}", hint, code="target_unknown")

    def prepare(self, learner: Learner) -> dict[str, nn.Parameter]:
        """Freezes all weights and puts an adapter beside each target, in the order of the model's layers."""
        targets, model = shape_of(learner.settings).targets, learner.model
        model.requires_grad_(False)
        for path, linear in linear_layers(model).items():
            parent, _, name = path.rpartition(".")
            if name in targets:
                setattr(model.get_submodule(parent), name, self.adapted(linear, learner))
        adapted = adapted_layers(model)
        return {f"{path}.{name}": parameter for path, layer in adapted.items() for name, parameter in layer.named_parameters(recurse=False)}

    def adapted(self, linear: nn.Linear, learner: Learner) -> LoraLinear:
        """``linear`` with an adapter beside it."""
        lora = shape_of(learner.settings)
        return (DoraLinear if lora.dora else LoraLinear)(linear, lora.rank, lora.scaling)

    def rates(self, learner: Learner) -> dict[str, float]:
        """Those of B, where it learns faster than A."""
        faster = shape_of(learner.settings).b_rate
        return {f"{path}.B": faster for path in adapted_layers(learner.model)} if faster != 1.0 else {}

    def save(self, learner: Learner, folder: Path) -> None:
        """The adapter alone, in PEFT format."""
        write_adapter(adapted_layers(learner.model), shape_of(learner.settings), folder)


def shape_of(settings: TrainingSettings) -> LoraSettings:
    """The adapter's settings. Raises InvalidInput when there are none."""
    if settings.lora is None or not settings.lora.targets:
        raise InvalidInput(
            "LoRA was asked for without a rank and target layers", "give the settings a lora section with targets", code="lora_missing"
        )
    return settings.lora


def linear_layers(model: Any) -> dict[str, nn.Linear]:
    """Linear layers by path, the output head left out: serving engines load no adapter there."""
    head = model.get_output_embeddings()
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head}


def adapted_layers(model: PreTrainedModel) -> dict[str, LoraLinear]:
    """Layers with an adapter, by path."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LoraLinear)}
