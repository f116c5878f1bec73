"""Converter of sentence encoders: any model of which transformers reads hidden states, with the files of sentence-transformers beside it.

How texts become vectors is read once, here, in the process that is confined, and written as one description
(``base_models/encoder_vectors.py``):
pooling and normalisation of ``modules.json``, prefixes of ``config_sentence_transformers.json``, tokens of
``sentence_bert_config.json``. What these files leave open is as the catalogue states it, else as sentence-transformers has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModel

from tailorbird.base_models.encoder_vectors import ENCODER_FILE, most_tokens, read_encoder
from tailorbird.decoders import is_decoder, largest_list
from tailorbird.domain.base_model import EncoderDescription, EncoderFile, EncoderPrefixes
from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.forward.model_folder import check_fit
from tailorbird.inference.model_description import read_config

_MODULES, _PROMPTS, _TOKENS = "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"
#: Settings of a pooling module of sentence-transformers to the rules that are known here.
_RULES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}
#: Names that prompts have for what a text is read for, the first that is there counts.
_PROMPT_NAMES = {
    "query": ("query", "search_query", "retrieval.query"),
    "passage": ("document", "passage", "search_document", "corpus", "retrieval.passage"),
    "text": ("classification", "Classification"),
}
#: Tokens that a tokenizer names where it knows no bound.
_UNBOUNDED = 1 << 20


def is_encoder(source: Path) -> bool:
    """True for the folder of a model that turns texts into vectors: it says so, or it writes no text."""
    return (source / _MODULES).is_file() or (source / ENCODER_FILE).is_file() or not is_decoder(read_config(source))


def read_model(source: Path) -> Any:
    """The model in ``source``, its weights in the type in which they are held. Raises ModelInvalid: it is no sentence encoder, or does not
    belong to its config."""
    config = read_config(source)
    heads = [name for name in config.architectures or () if name.endswith(("ForSequenceClassification", "ForTokenClassification"))]
    whole = not (source / _MODULES).is_file() and not (source / ENCODER_FILE).is_file()
    if getattr(config, "is_encoder_decoder", False) or type(config) not in AutoModel._model_mapping or (heads and whole):
        raise ModelInvalid(
            f"{source.name} ({config.model_type}) is neither a decoder nor a sentence encoder",
            "use an instruct model, or for vectors a model that sentence-transformers reads",
            code="model_unsupported",
        )
    kind: Any = AutoModel
    model, told = kind.from_pretrained(source, dtype="auto", use_safetensors=True, trust_remote_code=False, output_loading_info=True)
    # What pooled the first token for the next sentence is often not there, and never read.
    missing = {name for name in told["missing_keys"] if not name.startswith("pooler.")}
    check_fit(source, {**told, "missing_keys": missing})
    return model.eval()


def describe_encoder(source: Path, model: Any, tokenizer: Any, stated: EncoderDescription | None) -> EncoderFile:
    """How the encoder in ``source`` makes its vectors, and its shape. Raises ModelInvalid
    (``model_unsupported``)."""
    hidden = int(model.config.hidden_size)
    if (source / ENCODER_FILE).is_file():
        stated = read_encoder(source).description
    found: dict[str, Any] = {"pooling": "mean", "width": hidden} | (stated.model_dump() if stated else {})
    if (source / _MODULES).is_file():
        found |= _modules(source)
    found["prefixes"] = _prefixes(source) or found.get("prefixes", EncoderPrefixes())
    found["max_tokens"] = _tokens(source, tokenizer, stated, model)
    found["width"] = hidden
    # Linear layers of a block, by their path in it.
    named = ((path, layer) for block in largest_list(model) for path, layer in block.named_modules())
    linear = {path: (layer.in_features, layer.out_features) for path, layer in named if isinstance(layer, nn.Linear) and path}
    widest = max((max(sides) for sides in linear.values()), default=hidden)
    return EncoderFile(
        description=EncoderDescription.model_validate(found),
        hidden=hidden,
        layers=len(largest_list(model)),
        vocabulary=model.get_input_embeddings().weight.shape[0],
        context=most_tokens(model, _UNBOUNDED),
        intermediate=int(getattr(model.config, "intermediate_size", None) or widest),
        linear_shapes=linear,
    )


def _modules(source: Path) -> dict[str, Any]:
    """What ``modules.json`` says. Without a module that normalises, vectors are compared by their direction all the same, unless the model
    says that it compares products."""
    # Kind and folder of each module; a folder outside the model is none.
    listed = _read(source / _MODULES, [])
    modules = [module for module in (listed if isinstance(listed, list) else [listed]) if isinstance(module, dict)]
    found = [(str(module.get("type", "")).rpartition(".")[2], str(module.get("path", ""))) for module in modules]
    if any("/" in path or path.startswith(".") for _, path in found):
        raise _unknown(source, "a module outside its folder")
    kinds = found
    if odd := [kind for kind, _ in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise _unknown(source, f"a module {odd[0][:40]}")
    if [kind for kind, _ in kinds][:1] != ["Transformer"] or kinds[0][1] or sum(kind == "Pooling" for kind, _ in kinds) != 1:
        raise _unknown(source, "modules in another order than a model, its pooling, and what follows")
    pooling = next(path for kind, path in kinds if kind == "Pooling")
    similarity = str(_read(source / _PROMPTS).get("similarity_fn_name") or "cosine")
    if similarity not in ("cosine", "dot", "dot_score"):
        raise _unknown(source, f"vectors compared by {similarity[:40]}")
    return {
        "pooling": _rule(source, _read(source / pooling / "config.json")),
        "normalised": similarity == "cosine" or kinds[-1][0] == "Normalize",
    }


def _rule(source: Path, settings: dict[str, Any]) -> str:
    named = [rule for setting, rule in _RULES.items() if settings.get(setting)] or [settings.get("pooling_mode", "mean")]
    others = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on and name not in _RULES]
    if len(named) > 1 or others or named[0] not in _RULES.values():
        raise _unknown(source, "several rules of pooling at a time, or a weighted one")
    if settings.get("include_prompt") is False:
        raise _unknown(source, "pooling that leaves the prefix out")
    return str(named[0])


def _prefixes(source: Path) -> EncoderPrefixes | None:
    """The prompts that the model names; None where it names none that counts here. A text by itself is read behind the default prompt."""
    settings = _read(source / _PROMPTS)
    prompts = settings.get("prompts")
    prompts = {str(name): text for name, text in prompts.items() if isinstance(text, str)} if isinstance(prompts, dict) else {}
    default = prompts.get(str(settings.get("default_prompt_name")), "")
    found = {purpose: next((prompts[name] for name in names if name in prompts), default) for purpose, names in _PROMPT_NAMES.items()}
    if not any(found.values()):
        return None
    if max(map(len, found.values())) > 1000:
        raise ModelInvalid(
            f"a prompt of {source.name} has more than 1,000 characters",
            "use another encoder, or shorten the prompt",
            code="model_unsupported",
        )
    return EncoderPrefixes(**found)


def _tokens(source: Path, tokenizer: Any, stated: EncoderDescription | None, model: Any) -> int:
    asked = _read(source / _TOKENS).get("max_seq_length")
    if not isinstance(asked, int) or asked < 1:
        asked = stated.max_tokens if stated else min(int(tokenizer.model_max_length), _UNBOUNDED)
    return most_tokens(model, min(asked, _UNBOUNDED))


def _read(path: Path, absent: Any = None) -> Any:
    """What a JSON file holds; ``absent``, or an empty mapping, where there is none."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {} if absent is None else absent
    except (OSError, ValueError, RecursionError) as error:
        raise ModelInvalid(f"{path.parent.name}/{path.name} cannot be read", "fetch the model again", code="model_config") from error
    return held if absent is not None or isinstance(held, dict) else {}


def _unknown(source: Path, what: str) -> ModelInvalid:
    return ModelInvalid(
        f"the encoder in {source.name} makes its vectors by {what}, which is not known here",
        "use an encoder that pools its tokens' mean, maximum, first or last, with normalisation behind that at most",
        code="model_unsupported",
    )
