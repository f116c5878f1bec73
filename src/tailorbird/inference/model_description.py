"""Shape of any decoder that transformers knows, from its config on the meta device and the headers of its weights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig

from tailorbird.crypto.canonical_json import plain_json
from tailorbird.decoders import ACTIVE, EXPERTS, blocks, first_size, model_class, peft_targets
from tailorbird.domain.base_model import ExpertWeights, LinearGroup, ModelAnatomy, ModelShape
from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.output_head import has_own_logits
from tailorbird.inference.saved_activations import count_saved
from tailorbird.inference.transformers_verbosity import quiet
from tailorbird.system.process import model_load
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, call

#: Torch and transformers take a gigabyte and some seconds; a model of 200 layers on the meta device a few seconds more.
_LIMITS = SandboxLimits(memory=8 << 30, processor=120, wait=240.0, output=16 << 20)
#: More layers, experts or width than any model has.
_MOST = {"num_hidden_layers": 1_000, "hidden_size": 1 << 17, "vocab_size": 1 << 24}
#: A linear layer this many times narrower on one side than the model is a gate: a low-rank product beside it would be as large as itself.
_GATE = 16


def describe(source: Path) -> ModelShape:
    """As ``ModelReader.describe``, by a confined process."""
    job = SandboxJob(f"{__name__}:shape", {"source": str(source.absolute())}, _LIMITS, source.name, ModelInvalid, broken="model_config")
    return ModelShape.model_validate(call(job))


def shape(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: as ``describe``."""
    with quiet():
        yield plain_json(describe_here(Path(given["source"])))


def describe_here(source: Path) -> ModelShape:
    """As ``describe``, in this process."""
    config = read_config(source)
    try:
        with model_load, torch.device("meta"):
            model = model_class(config, source.name).from_config(config)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, IndexError, ZeroDivisionError, ImportError) as error:
        raise ModelInvalid(
            f"transformers cannot build the model that the config of {source.name} describes ({type(error).__name__})",
            "fetch the model again: its config.json is incomplete or contradicts itself",
            code="model_config",
        ) from error
    shape = shape_of(model)
    saved = count_saved(model, blocks(model), set(shape.linear_shapes))
    return shape.model_copy(update={"anatomy": shape.anatomy.model_copy(update={"saved": saved})})


def read_config(folder: Path) -> Any:
    """The config in ``folder``, or in this file, which may be GGUF. Raises ModelInvalid: remote code, a type that is unknown, quantised,
    sizes that no model has."""
    if folder.suffix == ".gguf" and folder.is_file():
        return _within_sizes(_gguf_config(folder), folder.name)
    try:
        plain = json.loads((folder if folder.is_file() else folder / "config.json").read_text(encoding="utf-8"))
        model_type = plain.get("model_type")
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise _broken(folder.name, "cannot be read") from error
    if "auto_map" in plain:
        raise ModelInvalid(
            f"the model in {folder.name} asks to run code of its own", "use a model that transformers knows", code="model_unsafe"
        )
    if model_type not in CONFIG_MAPPING:
        raise ModelInvalid(
            f"the installed transformers knows no model type {str(model_type)[:60]!r}",
            "use a model whose architecture transformers has, or a newer transformers",
            code="model_unsupported",
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        config.get_text_config(decoder=True)
    except Exception as error:  # validation of configs raises errors of many libraries
        raise _broken(folder.name, f"is no config of {model_type} ({type(error).__name__})") from error
    # Raises ModelInvalid where the checkpoint is quantised: neither an adapter's training nor a merge is exact there.
    name = folder.name
    quantisation = getattr(config, "quantization_config", None)
    if quantisation:
        kind = quantisation.get("quant_method", "") if isinstance(quantisation, dict) else getattr(quantisation, "quant_method", "")
        raise ModelInvalid(
            f"the weights of {name} are quantised ({str(kind)[:30] or 'unnamed method'}), and cannot be trained as they are",
            "use the checkpoint in 16 bits that it was made from; qlora quantises it for the training alone",
            code="model_unsupported",
        )
    return _within_sizes(config, folder.name)


def _gguf_config(path: Path) -> Any:
    """The config that the header of a GGUF file gives. That its weights are quantised is nothing against it: they are converted."""
    try:
        return AutoConfig.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
    except Exception as error:  # readers of GGUF raise errors of many kinds
        raise _broken(path.name, f"cannot be read from its header ({type(error).__name__})") from error


def _within_sizes(config: Any, name: str) -> Any:
    text = config.get_text_config(decoder=True)
    for key, most in _MOST.items():
        size = getattr(text, key, None)
        if size is not None and not 0 < int(size) <= most:
            raise _broken(name, f"says {key} {size}")
    return config


def _broken(name: str, why: str) -> ModelInvalid:
    return ModelInvalid(f"the config of {name} {why}", "fetch the model again", code="model_config")


def shape_of(model: Any) -> ModelShape:
    """The shape of ``model``, of its text part where it is more."""
    config = model.config.get_text_config(decoder=True)
    # Linear layers of the decoder's blocks, by their path in ``model``.
    inside = {id(module) for module in blocks(model).modules()}
    linear = {path: layer for path, layer in model.named_modules() if isinstance(layer, nn.Linear) and id(layer) in inside}
    groups = Counter((path.rpartition(".")[2], layer.in_features, layer.out_features) for path, layer in linear.items())
    wide = {name for name, inputs, outputs in groups if min(inputs, outputs) * _GATE >= config.hidden_size}
    adapted = peft_targets(model, wide)
    shapes: dict[str, tuple[int, int]] = {}
    for name, inputs, outputs in sorted(groups, key=lambda group: group[1] * group[2]):
        if name in adapted:
            shapes[name] = (inputs, outputs)
    heads = int(getattr(config, "num_attention_heads", None) or 0) if _attends(model) else 0
    key_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    head_width = int(getattr(config, "head_dim", None) or config.hidden_size // heads) if heads else 0
    wrapped = model.config.model_type != config.model_type
    widest = max((outputs for _, outputs in shapes.values()), default=0)
    intermediate = (
        getattr(config, "intermediate_size", None)
        or widest
        or max((max(parameter.shape) for parameter in blocks(model).parameters() if parameter.ndim == 2), default=0)
    )
    return ModelShape(
        hidden=config.hidden_size,
        layers=len(blocks(model)),
        vocabulary=model.get_input_embeddings().weight.shape[0],
        context=int(getattr(config, "max_position_embeddings", None) or 1 << 20),
        intermediate=int(intermediate if isinstance(intermediate, int) else max(intermediate)),
        linear_shapes=dict(sorted(shapes.items(), key=lambda item: list(map(_name, linear)).index(item[0]))),
        anatomy=ModelAnatomy(
            model_type=config.model_type,
            wrapper=model.config.model_type if wrapped else "",
            heads=heads,
            key_heads=key_heads,
            head_width=head_width,
            linear_groups=tuple(
                LinearGroup(name=name, inputs=inputs, outputs=outputs, count=count, adapted=name in adapted)
                for (name, inputs, outputs), count in groups.items()
            ),
            experts=_experts(model, config),
            recurrent=bool(getattr(model, "_is_stateful", False)),
            own_logits=has_own_logits(model),
            normalised=_normalised(model, head_width, heads + key_heads),
        ),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def _name(path: str) -> str:
    return path.rpartition(".")[2]


def _normalised(model: Any, head_width: int, heads: int) -> int:
    """Numbers of a token that the norms of all blocks read. A norm of a head's width reads half of the query and key heads."""
    norms = [module for module in blocks(model).modules() if "norm" in type(module).__name__.lower()]
    widths = [weight.numel() for norm in norms for name, weight in norm.named_parameters(recurse=False) if name == "weight"]
    return sum(width * heads // 2 if width == head_width else width for width in widths)


def _attends(model: Any) -> bool:
    return any("attention" in type(module).__name__.lower() for module in blocks(model).modules())


def _experts(model: Any, config: Any) -> ExpertWeights | None:
    """Experts are the leading axis of tensors of three dimensions: the largest of these."""
    tensors = [parameter for parameter in blocks(model).parameters() if parameter.ndim == 3 and parameter.shape[0] > 1]
    count, active = first_size(config, EXPERTS), first_size(config, ACTIVE) or 1
    held = [parameter for parameter in tensors if parameter.shape[0] == count]
    if not held:
        return None
    return ExpertWeights(experts=count, active=min(active, count), parameters=sum(parameter.numel() for parameter in held))
