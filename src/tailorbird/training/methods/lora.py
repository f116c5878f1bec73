"""LoRA: frozen weights with low-rank fp32 adapters on chosen linear layers, saved in PEFT format."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.text.normalisation import nearest
from tailorbird.training.architecture import blocks, text_config
from tailorbird.training.methods.registry import Learner, register
from tailorbird.training.network import read_model


class LoraLinear(nn.Module):
    """Stands in for ``linear``, whose weight and bias are frozen.

    ``A`` (rank, inputs) is drawn Kaiming-uniform, ``B`` (outputs, rank) starts at zero.
    """

    def __init__(self, linear: nn.Linear, rank: int, scaling: float) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scaling = scaling
        a_RI = torch.empty(rank, linear.in_features)
        nn.init.kaiming_uniform_(a_RI, a=math.sqrt(5))
        device = linear.weight.device
        self.A = nn.Parameter(a_RI.to(device))
        self.B = nn.Parameter(torch.zeros(linear.out_features, rank, device=device))

    def frozen(self) -> torch.Tensor:
        """The frozen weight (outputs, inputs) in the type it is multiplied in."""
        return self.linear.weight

    @property
    def weight(self) -> torch.Tensor:
        """The layer's own weight as it is held: some architectures ask for its type."""
        return self.linear.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The layer's own bias."""
        return self.linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        return JoinedLora([self])(x.flatten(0, -2)).view(*x.shape[:-1], -1)

    @staticmethod
    def joined(layers: Sequence[LoraLinear]) -> Callable[[torch.Tensor], torch.Tensor]:
        """``layers`` that read the same input, as one. Plain weights are laid end to end, and the layers keep views of them."""
        together = JoinedLora(layers)
        if len(layers) > 1 and all(type(layer.linear) is nn.Linear for layer in layers):
            together.lay_end_to_end()
        return together


class JoinedLora:
    """Adapted layers that read the same input: (T, inputs) to (T, the outputs of all)."""

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.layers = layers
        self.scalings = [layer.scaling for layer in layers]
        self._weight_OI: torch.Tensor | None = None

    def lay_end_to_end(self) -> None:
        """Makes one matrix of the frozen weights, so that they are multiplied at once."""
        self._weight_OI = torch.cat([layer.frozen() for layer in self.layers])
        parts = torch.split(self._weight_OI, [layer.frozen().shape[0] for layer in self.layers])
        for layer, part_OI in zip(self.layers, parts, strict=True):
            layer.linear.weight.data = part_OI

    def weight(self) -> torch.Tensor:
        """The frozen weights, one below the other."""
        if self._weight_OI is not None:
            return self._weight_OI
        if len(self.layers) == 1:
            return self.layers[0].frozen()
        return torch.cat([layer.frozen() for layer in self.layers])

    def __call__(self, x_TI: torch.Tensor) -> torch.Tensor:
        """W x + bias + scaling · B A x of each layer, side by side."""
        return self.with_bias(self.without_bias(x_TI))

    def without_bias(self, x_TI: torch.Tensor) -> torch.Tensor:
        """W x + scaling · B A x of each layer, side by side."""
        factors = [factor for layer in self.layers for factor in (layer.A, layer.B)]
        y_TO: torch.Tensor = _update(x_TI, self, *factors)
        return y_TO

    def with_bias(self, y_TO: torch.Tensor) -> torch.Tensor:
        """The biases of all layers added, where there are any."""
        if any(layer.linear.bias is not None for layer in self.layers):
            y_TO = y_TO + torch.cat([_bias(layer) for layer in self.layers]).to(y_TO.dtype)
        return y_TO


def _bias(layer: LoraLinear) -> torch.Tensor:
    bias: torch.Tensor | None = layer.linear.bias
    return torch.zeros(layer.linear.out_features, device=layer.A.device) if bias is None else bias


class LowRankUpdate(torch.autograd.Function):
    """y = x Wᵀ + (x Aᵀ) (s B)ᵀ, forward and backward as plain matmuls (LoRA, Hu et al. 2021, arXiv:2106.09685).

    The A of all layers stand one below the other, their B on the diagonal of one matrix. A and B are fp32 and are multiplied in the type of
    ``x``. Only ``x``, ``x Aᵀ`` and the factors are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x_TI: torch.Tensor, joined: JoinedLora, *factors: torch.Tensor) -> torch.Tensor:
        """(T, I) to (T, O)."""
        a_RI = torch.cat(factors[::2]).to(x_TI.dtype)
        b_OR = _diagonal([b * scaling for b, scaling in zip(factors[1::2], joined.scalings, strict=True)]).to(x_TI.dtype)
        low_TR = x_TI @ a_RI.T
        ctx.save_for_backward(x_TI, a_RI, b_OR, low_TR)
        ctx.joined = joined
        return (x_TI @ joined.weight().T).addmm_(low_TR, b_OR.T)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, and of each A and B."""
        x_TI, a_RI, b_OR, low_TR = ctx.saved_tensors
        grad_TO = upstream[0]
        grad_low_TR = grad_TO @ b_OR
        grad_a_RI, grad_b_OR = (grad_low_TR.T @ x_TI).float(), (grad_TO.T @ low_TR).float()
        # The first adapted layer stands behind frozen embeddings: nobody asks for its input's gradient.
        grad_x_TI = (grad_TO @ ctx.joined.weight()).addmm_(grad_low_TR, a_RI) if ctx.needs_input_grad[0] else None
        found: list[torch.Tensor] = []
        row = column = 0
        for layer, scaling in zip(ctx.joined.layers, ctx.joined.scalings, strict=True):
            outputs, rank = layer.B.shape
            found.append(grad_a_RI[column : column + rank])
            found.append(grad_b_OR[row : row + outputs, column : column + rank] * scaling)
            row, column = row + outputs, column + rank
        return grad_x_TI, None, *found


def _diagonal(blocks: list[torch.Tensor]) -> torch.Tensor:
    if len(blocks) == 1:
        return blocks[0]
    whole = torch.zeros(sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks), device=blocks[0].device)
    row = column = 0
    for block in blocks:
        whole[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return whole


#: torch leaves ``Function.apply`` untyped.
_update: Any = LowRankUpdate.apply


def write_adapter(layers: dict[str, LoraLinear], settings: LoraSettings, folder: Path) -> None:
    """Writes ``layers`` (by their path in the model) into ``folder``."""
    tensors = {}
    for path, layer in layers.items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = layer.A.detach().cpu().contiguous()
        tensors[f"base_model.model.{path}.lora_B.weight"] = layer.B.detach().cpu().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(_config(settings), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _config(settings: LoraSettings) -> dict[str, object]:
    """What PEFT cannot do without. No path of the base model: the release names it by digest."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": settings.rslora,
        "modules_to_save": None,
        "target_modules": sorted(settings.targets),
    }


class Lora:
    """Adapters of rank ``settings.lora.rank`` on every linear layer named in ``settings.lora.targets``.

    Options of the settings: ``rslora`` (another scaling), ``b_rate`` (B learns faster than A: LoRA+, Hayou et al. 2024,
    arXiv:2402.12354).
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
        lora, hidden = shape_of(learner.settings), text_config(learner.model).hidden_size
        if not 1 <= lora.rank <= hidden:
            raise InvalidInput(
                f"rank {lora.rank} does not lie between 1 and the model's hidden size, {hidden}",
                "choose a rank of 8 to 64; where that is too little, train all weights (method full)",
                code="rank_out_of_range",
            )
        known = {path.rpartition(".")[2] for path in block_layers(learner.model)}
        for target in lora.targets:
            if target not in known:
                near = nearest(target, known)
                hint = f"did you mean {near}?" if near else f"this model has: {', '.join(sorted(known))}"
                raise InvalidInput(f"the model has no linear layer named {target}", hint, code="target_unknown")
        if unfit := set(lora.targets) - _peft_targets(learner.model, lora.targets):
            raise InvalidInput(
                f"PEFT places no adapter on {', '.join(sorted(unfit))} of a {text_config(learner.model).model_type} model",
                f"leave {', '.join(sorted(unfit))} out of the targets",
                code="target_unfit",
            )

    def prepare(self, learner: Learner) -> dict[str, nn.Parameter]:
        """Freezes all weights and puts an adapter beside each target, in the order of the model's layers."""
        targets, model = shape_of(learner.settings).targets, learner.model
        model.requires_grad_(False)
        for path, linear in block_layers(model).items():
            parent, _, name = path.rpartition(".")
            if name in targets:
                setattr(model.get_submodule(parent), name, self.adapted(linear, learner))
        adapted = adapted_layers(model)
        return {f"{path}.{name}": parameter for path, layer in adapted.items() for name, parameter in layer.named_parameters(recurse=False)}

    def adapted(self, linear: nn.Linear, learner: Learner) -> LoraLinear:
        """``linear`` with an adapter beside it."""
        lora = shape_of(learner.settings)
        return LoraLinear(linear, lora.rank, lora.scaling)

    def rates(self, learner: Learner) -> dict[str, float]:
        """Rate multipliers of B, where it learns faster than A."""
        faster = shape_of(learner.settings).b_rate
        return {f"{path}.B": faster for path in adapted_layers(learner.model)} if faster != 1.0 else {}

    def save(self, learner: Learner, folder: Path) -> None:
        """The adapter alone, in PEFT format."""
        lora, adapted = shape_of(learner.settings), adapted_layers(learner.model)
        others = {path.rpartition(".")[2] for path in linear_layers(learner.model)}
        # A name that layers elsewhere bear too would have PEFT adapt those as well: paths then stand for names.
        unique = others.isdisjoint(lora.targets)
        write_adapter(adapted, lora if unique else lora.model_copy(update={"targets": tuple(adapted)}), folder)


def _peft_targets(model: Any, names: Iterable[str]) -> set[str]:
    """Those of ``names`` on whose layers PEFT places adapters. Of a mixture it takes the names of some shared layers for those of experts,
    which are one tensor in transformers 5; and fused kernels of state-space blocks go past some layers."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import _check_lora_target_modules_mamba as check
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers as convert

    asked = LoraConfig(target_modules=sorted(names))
    try:
        convert(asked, model, None)
    except ValueError:
        return set()
    return {name for name in asked.target_modules or () if not _raises(check, asked, model, name)}


def _raises(check: Callable[..., object], *given: Any) -> bool:
    try:
        check(*given)
    except ValueError:
        return True
    return False


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


def block_layers(model: Any) -> dict[str, nn.Linear]:
    """Linear layers of the decoder's blocks, by path: those that take adapters. A multimodal model's other parts have none."""
    inside = {id(module) for module in blocks(model).modules()}
    return {path: layer for path, layer in linear_layers(model).items() if id(layer) in inside}


def adapted_layers(model: PreTrainedModel) -> dict[str, LoraLinear]:
    """Layers with an adapter, by path."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LoraLinear)}


register(Lora())
