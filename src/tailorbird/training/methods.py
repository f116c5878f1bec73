"""Training methods: full fine-tuning, LoRA and QLoRA.

``full`` trains every weight in fp32 and saves a Hugging Face folder. ``lora`` freezes the weights and trains low-rank fp32 adapters on
chosen linear layers, saved in PEFT format. ``qlora`` (Dettmers et al. 2023, arXiv:2305.14314) does so beside weights in 4-bit NormalFloat.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from tailorbird.decoders import blocks, peft_targets, text_config
from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.text.words import nearest
from tailorbird.training.network import read_model


@dataclass(frozen=True)
class Learner:
    """Model under training, its settings, and the folder that its weights came from."""

    model: PreTrainedModel
    settings: TrainingSettings
    base: Path


#: What travels with the weights, where the base model has it.
_COMPANIONS = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


class Full:
    """All weights, held and updated in fp32; under ``bf16`` they are multiplied in bf16."""

    #: Weights are held in fp32, where an update far smaller than its weight is not lost, and multiplied in the settings' precision.
    master_weights = True

    def read(self, folder: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """The model as it is. Raises ModelInvalid."""
        return read_model(folder, dtype, device)

    def check(self, learner: Learner) -> None:
        """Any decoder and any settings will do."""

    def prepare(self, learner: Learner) -> dict[str, nn.Parameter]:
        """Every parameter of the decoder and its head, tied ones once; what else a multimodal model has stays as it is."""
        model: Any = learner.model
        model.requires_grad_(False)
        for part in (model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings()):
            part.requires_grad_(True)
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def save(self, learner: Learner, folder: Path) -> None:
        """Weights, config, tokenizer and chat template."""
        tensors = _untied(learner.model)
        if set(tensors) <= set(_names(learner.base)):
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            # The files of some architectures name or divide tensors otherwise than the model does.
            learner.model.save_pretrained(folder, max_shard_size="1000GB")
        config = json.loads((learner.base / "config.json").read_text(encoding="utf-8"))
        config["dtype"] = "float32"
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        for name in _COMPANIONS:
            if (learner.base / name).is_file():
                shutil.copyfile(learner.base / name, folder / name)


def _names(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            yield from file.keys()


def _untied(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The state of ``model``, each piece of memory under its first name: the format refuses shared tensors, and loading ties them again."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            tensors[name] = tensor.detach().cpu().contiguous()
    return tensors


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
        y: torch.Tensor = _update(x.flatten(0, -2), self.A, self.B, self).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class LowRankUpdate(torch.autograd.Function):
    """y = x Wᵀ + (x Aᵀ) (s B)ᵀ, forward and backward as plain matmuls (LoRA, Hu et al. 2021, arXiv:2106.09685).

    A and B are fp32 and are multiplied in the type of ``x``. Only ``x``, ``x Aᵀ`` and the factors are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x_TI: torch.Tensor, a_RI: torch.Tensor, b_OR: torch.Tensor, layer: LoraLinear) -> torch.Tensor:
        """(T, I) to (T, O)."""
        a_RI, b_OR = a_RI.to(x_TI.dtype), (b_OR * layer.scaling).to(x_TI.dtype)
        low_TR = x_TI @ a_RI.T
        ctx.save_for_backward(x_TI, a_RI, b_OR, low_TR)
        ctx.layer = layer
        return (x_TI @ layer.frozen().T).addmm_(low_TR, b_OR.T)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, None]:
        """Gradients of x, A and B."""
        x_TI, a_RI, b_OR, low_TR = ctx.saved_tensors
        grad_TO = upstream[0]
        grad_low_TR = grad_TO @ b_OR
        grad_a_RI, grad_b_OR = (grad_low_TR.T @ x_TI).float(), (grad_TO.T @ low_TR).float()
        # The first adapted layer stands behind frozen embeddings: nobody asks for its input's gradient.
        grad_x_TI = (grad_TO @ ctx.layer.frozen()).addmm_(grad_low_TR, a_RI) if ctx.needs_input_grad[0] else None
        return grad_x_TI, grad_a_RI, grad_b_OR * ctx.layer.scaling, None


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
    """Adapters of rank ``settings.lora.rank`` on every linear layer named in ``settings.lora.targets``."""

    #: Frozen weights need no more precision than they are multiplied in.
    master_weights = False

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
                code="adapter_invalid",
            )
        known = {path.rpartition(".")[2] for path in block_layers(learner.model)}
        for target in lora.targets:
            if target not in known:
                near = nearest(target, known)
                hint = f"did you mean {near}?" if near else f"this model has: {', '.join(sorted(known))}"
                raise InvalidInput(f"the model has no linear layer named {target}", hint, code="adapter_invalid")
        if unfit := set(lora.targets) - peft_targets(learner.model, lora.targets):
            raise InvalidInput(
                f"PEFT places no adapter on {', '.join(sorted(unfit))} of a {text_config(learner.model).model_type} model",
                f"leave {', '.join(sorted(unfit))} out of the targets",
                code="adapter_invalid",
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

    def save(self, learner: Learner, folder: Path) -> None:
        """The adapter alone, in PEFT format."""
        lora, adapted = shape_of(learner.settings), adapted_layers(learner.model)
        others = {path.rpartition(".")[2] for path in linear_layers(learner.model)}
        # A name that layers elsewhere bear too would have PEFT adapt those as well: paths then stand for names.
        unique = others.isdisjoint(lora.targets)
        write_adapter(adapted, lora if unique else lora.model_copy(update={"targets": tuple(adapted)}), folder)


def shape_of(settings: TrainingSettings) -> LoraSettings:
    """The adapter's settings. Raises InvalidInput when there are none."""
    if settings.lora is None or not settings.lora.targets:
        raise InvalidInput(
            "LoRA was asked for without a rank and target layers", "give the settings a lora section with targets", code="adapter_invalid"
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


class Nf4Linear(nn.Linear):
    """A layer of bitsandbytes (``Linear4bit``) that computes by us.

    Its own forward pass repacks the weight in place on some processors, and so rounds its scales: what is learned on would then change
    under the way. Ours makes the weight anew for each product, forward and backward, and drops it.
    """

    def dequantised(self) -> torch.Tensor:
        """The weight (outputs, inputs) that the 4 bits stand for, in the type in which the model was read."""
        from bitsandbytes.functional import dequantize_4bit

        packed: Any = self.weight
        weight_OI: torch.Tensor = dequantize_4bit(packed.data, packed.quant_state)
        return weight_OI

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        y: torch.Tensor = _product(input, self)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class FrozenProduct(torch.autograd.Function):
    """x Wᵀ with a frozen weight of which nothing is kept between the forward and the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: Nf4Linear) -> torch.Tensor:
        """(…, I) to (…, O)."""
        ctx.layer = layer
        weight_OI = layer.dequantised()
        return x.to(weight_OI.dtype) @ weight_OI.T

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The gradient of x."""
        return upstream[0] @ ctx.layer.dequantised(), None


#: torch leaves ``Function.apply`` untyped.
_product: Any = FrozenProduct.apply


class QloraLinear(LoraLinear):
    """An adapter beside a weight in 4 bits."""

    def __init__(self, linear: nn.Linear, rank: int, scaling: float) -> None:
        super().__init__(quantised(linear), rank, scaling)

    def frozen(self) -> torch.Tensor:
        """The frozen weight (outputs, inputs), dequantised."""
        assert isinstance(self.linear, Nf4Linear)
        return self.linear.dequantised()


def quantised(linear: nn.Linear) -> Nf4Linear:
    """``linear`` in 4 bits, scales quantised again; one that was quantised as it was read keeps its bits."""
    four_bit: Any = import_module("bitsandbytes.nn")
    if not isinstance(linear, four_bit.Linear4bit | Nf4Linear):
        made = four_bit.Linear4bit(linear.in_features, linear.out_features, bias=False, device="meta", quant_type="nf4")
        made.weight = four_bit.Params4bit(linear.weight.detach(), requires_grad=False, quant_type="nf4").to(linear.weight.device)
        made.bias = linear.bias
        linear = made
    linear.__class__ = Nf4Linear
    assert isinstance(linear, Nf4Linear)
    return linear


#: bitsandbytes mentions a package with faster kernels for work that is not done here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
#: transformers leaves it untyped.
_quantisation: Any = BitsAndBytesConfig


class Qlora(Lora):
    """As ``Lora``, where the memory does not hold the base in 16 bits: every linear layer but the head takes 4.13 bits a weight.

    The adapter is learned on the quantised base and saved for the base as it is. tailorbird measures and serves it there, on the
    unquantised base: what was measured is what is served. The loss that the loop reports is that of the quantised base, and so a little
    higher or lower.
    """

    def read(self, folder: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """The model, each layer quantised as it is read: NF4 in blocks of 64, their scales in 8 bits.

        Raises ModelInvalid, and Unavailable when bitsandbytes is not installed.
        """
        _require_bitsandbytes()
        # Our own layers decide what is computed with; this names the format alone.
        nf4 = _quantisation(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
        model = read_model(folder, dtype, device, nf4)
        for layer in linear_layers(model).values():
            quantised(layer)
        return model

    def check(self, learner: Learner) -> None:
        """As that of ``Lora``; raises Unavailable when bitsandbytes is not installed."""
        _require_bitsandbytes()
        super().check(learner)

    def adapted(self, linear: nn.Linear, learner: Learner) -> LoraLinear:
        """``linear``, quantised where it is not yet, with an adapter."""
        lora = shape_of(learner.settings)
        return QloraLinear(linear, lora.rank, lora.scaling)


def _require_bitsandbytes() -> None:
    if not find_spec("bitsandbytes"):
        raise Unavailable(
            "QLoRA needs the package bitsandbytes, which is not installed",
            "pip install 'tailorbird[local]', or use lora where the memory allows",
            code="package_missing",
        )


Method = Full | Lora
#: By the name that the settings have for them.
METHODS: dict[str, Method] = {"full": Full(), "lora": Lora(), "qlora": Qlora()}
