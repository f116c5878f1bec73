"""Reader of a decoder's folder: its class by transformers, its weights compared with its config, the reasons for a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from tailorbird.decoders import model_class
from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.forward.weights import Placement
from tailorbird.inference.model_description import read_config
from tailorbird.inference.transformers_verbosity import quiet


def read_weights(folder: Path, placement: Placement) -> Any:
    """The decoder in ``folder``, by transformers: a language model, or the text part of a model that also reads images or sound.

    Raises ModelInvalid: it cannot be read, runs code of its own, is of no known type, writes no text, is quantised in a way that cannot be
    read here, or its weights are not those of its config.
    """
    config = read_config(folder)
    kind: Any = model_class(config, folder.name)
    try:
        with quiet():
            model, told = kind.from_pretrained(
                folder,
                dtype=placement.dtype,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, AttributeError, TypeError, SafetensorError) as error:
        raise ModelInvalid(
            f"the model in {folder.name} cannot be read ({type(error).__name__})", "pull or train it again", code="model_unreadable"
        ) from error
    check_fit(folder, told)
    return _text_part(model.eval()).to(placement.device)


def check_fit(folder: Path, told: dict[str, Any]) -> None:
    """Compares the folder's tensors with those that its config asks for, as transformers told them: what is missing would be drawn at
    random, layers left out would be lost. Raises ModelInvalid."""
    left_out = [name for name in told.get("unexpected_keys", ()) if ".layers." in name and ".language_model." not in name]
    wrong = [*map(str, told.get("missing_keys", ())), *(str(each[0]) for each in told.get("mismatched_keys", ())), *left_out]
    if wrong:
        raise ModelInvalid(
            f"{folder.name}: config and weights differ in {len(wrong)} tensors, {sorted(wrong)[0][:120]} among them",
            "fetch the model again, or train it again: its config.json does not belong to its weights",
            code="model_unreadable",
        )


def decoder_of(model: Any) -> Any:
    """The part of a model that makes hidden states of tokens. Some call their output head a decoder."""
    found = model.get_decoder()
    return found if isinstance(found, PreTrainedModel) else model.base_model


def _text_part(model: Any) -> Any:
    """The model without the parts that read images or sound, which a text never reaches."""
    decoder = decoder_of(model)
    whole = getattr(model, model.base_model_prefix, None)
    if whole is None or whole is decoder or not any(part is decoder for part in whole.children()):
        return model
    for name, part in list(whole.named_children()):
        if part is not decoder and not isinstance(part, torch.nn.Embedding):
            whole._modules[name] = None
    return model
