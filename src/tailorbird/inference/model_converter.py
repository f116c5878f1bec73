"""Converter of GGUF files and Hugging Face folders to safetensors, config, tokenizer and chat template."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from tailorbird.base_models.encoder_vectors import ENCODER_FILE, encoder_json
from tailorbird.chat.templates import DEFAULT, TEMPLATES, render
from tailorbird.chat.tokenizer import special_tokens
from tailorbird.decoders import model_class
from tailorbird.domain.base_model import EncoderDescription, ModelShape
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.inference.encoder_converter import describe_encoder, is_encoder, read_model
from tailorbird.inference.forward.model_folder import check_fit
from tailorbird.inference.gguf_export import write_model
from tailorbird.inference.model_description import describe, read_config
from tailorbird.inference.text.tokenizer_check import check_tokenizer
from tailorbird.inference.transformers_verbosity import quiet
from tailorbird.ports.model_reader import GgufFile, GgufJob
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, stream

_log = logging.getLogger("tailorbird.models")

#: The weights stay in one file, whatever their size.
_ONE_FILE = "1000GB"


class TransformersReader:
    """A ``ModelReader`` on transformers. Weights of decoders are kept in fp32."""

    def convert(self, source: Path, target: Path, stated: EncoderDescription | None = None) -> None:
        """As ``ModelReader.convert``, by a confined process: weights, tokenizer and template come from somebody else."""
        given = {"source": str(source.absolute()), "target": str(target.absolute())}
        given["stated"] = stated.model_dump_json() if stated else ""
        limits = _limits(source)
        for _ in stream(
            SandboxJob(
                f"{__name__}:convert", given, limits, source.name, ModelInvalid, broken="model_unreadable", places=(given["target"],)
            )
        ):
            pass
        if (template := target / "chat_template.jinja").is_file():
            talk = [Message(role="user", content="?"), Message(role="assistant", content="!")]
            render(template.read_text(encoding="utf-8"), talk, special_tokens(target))

    def describe(self, source: Path) -> ModelShape:
        """As ``ModelReader.describe``."""
        return describe(source)

    def write_gguf(self, job: GgufJob) -> GgufFile:
        """As ``ModelReader.write_gguf``."""
        return write_model(job)

    def convert_here(self, source: Path, target: Path, stated: EncoderDescription | None = None) -> None:
        """As ``convert``, in this process."""
        with quiet():
            encodes = source.is_dir() and is_encoder(source)
            try:
                tokenizer, model = self._read_encoder(source) if encodes else self._read(source)
            except (OSError, ValueError, KeyError, RuntimeError, ImportError, NotImplementedError, SafetensorError) as error:
                raise ModelInvalid(
                    f"transformers cannot read {source.name} ({type(error).__name__})",
                    "give a GGUF file or a safetensors folder of a model that transformers knows",
                    code="model_unreadable",
                ) from error
            beyond = tokens_beyond(tokenizer, model, source.name)
            if encodes:
                (target / ENCODER_FILE).write_text(encoder_json(describe_encoder(source, model, tokenizer, stated)), encoding="utf-8")
            elif not tokenizer.chat_template:
                tokenizer.chat_template = TEMPLATES[DEFAULT]
            model.save_pretrained(target, max_shard_size=_ONE_FILE)
            tokenizer.save_pretrained(target)
            _leave_out(beyond, target / "tokenizer.json")
            # Takes out what transformers notes about this machine, so that the same model has the same digest everywhere.
            path = target / "tokenizer_config.json"
            config = json.loads(path.read_text(encoding="utf-8"))
            for key in ("is_local", "local_files_only", "name_or_path"):
                config.pop(key, None)
            path.write_text(json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def _read_encoder(source: Path) -> tuple[Any, PreTrainedModel]:
        _check_layers(read_config(source), source)
        tokenizer = _own_tokenizer(source, ends=True)
        tokenizer.chat_template = None
        return tokenizer, read_model(source)

    def _read(self, source: Path) -> tuple[Any, PreTrainedModel]:
        if source.is_file():
            return self._read_gguf(source)
        config = read_config(source)
        _check_layers(config, source)
        kind = model_class(config, source.name)
        tokenizer = _own_tokenizer(source)
        model, told = kind.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        check_fit(source, told)
        return tokenizer, model

    def _read_gguf(self, source: Path) -> tuple[Any, PreTrainedModel]:
        # A file for llama.cpp that makes vectors says how it pools, or that it does not attend causally. Raises ModelInvalid.
        fields = GGUFReader(source).fields.items()
        if any(name.endswith(".pooling_type") or (name.endswith(".attention.causal") and not field.contents()) for name, field in fields):
            raise ModelInvalid(
                f"{source.name} holds an encoder, of which transformers reads no GGUF file",
                "give the folder of safetensors that the file was made from, or its name on the hub",
                code="model_unsupported",
            )
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        loaded = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
        config = loaded.config
        # transformers marks the model as quantised, although its weights no longer are; a marked model can be neither saved nor trained.
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        fresh: Any = AutoModelForCausalLM
        model: PreTrainedModel = fresh.from_config(config, dtype=torch.float32)
        model.load_state_dict(loaded.state_dict())
        model.tie_weights()
        return tokenizer, model


def convert(given: dict[str, Any]) -> Iterator[Any]:
    """In a confined process: converts the model at ``source``, and reads texts with its tokenizer. Raises ModelInvalid."""
    target = Path(given["target"])
    stated = EncoderDescription.model_validate_json(given["stated"]) if given["stated"] else None
    TransformersReader().convert_here(Path(given["source"]), target, stated)
    check_tokenizer(target)
    yield True


def tokens_beyond(tokenizer: Any, model: Any, name: str) -> set[str]:
    """Tokens that a reader added past the embedding, as transformers does to many GGUF files; no text should give them.

    Raises ModelInvalid where a token of the vocabulary itself lies there, or one that begins or ends a text.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = {token: number for token, number in tokenizer.get_vocab().items() if number >= rows}
    added = {token.content for token in tokenizer.added_tokens_decoder.values()} - {tokenizer.bos_token, tokenizer.eos_token}
    if not beyond.keys() <= added:
        raise ModelInvalid(
            f"the tokenizer of {name} gives ids up to {max(beyond.values()):,}, and the model embeds {rows:,} tokens",
            "fetch model and tokenizer from one place: these do not belong together",
            code="model_unreadable",
        )
    return set(beyond)


#: Texts on which tokenizers that differ show it: spaces at each place, capitals, letters of several scripts, numbers, marks, lines.
_TEXTS = ("Hello world, it's HERE  now!", " leading", "trailing ", "日本 naïve café ﬁ Ａ", "a\tb\r\n\n c", "12345 67.8", "<b>{x}</b> _ ▁")


def _own_tokenizer(source: Path, *, ends: bool = False) -> Any:
    """The tokenizer in ``source`` as its ``tokenizer.json`` says, where ``ends`` are asked for with the tokens that it puts around a text.
    transformers makes some anew, after the class that the config or the type of the model names, and takes the vocabulary alone from the
    file: such a one reads texts otherwise than the model has learned them, and is not taken. Names of the tokens that begin and end texts
    come from the config in either case."""
    path = source / "tokenizer.json"
    if not path.is_file():
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    own = Tokenizer.from_file(str(path))
    try:
        found = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        if all(_ids(found.backend_tokenizer, text, ends) == _ids(own, text, ends) for text in _TEXTS):
            return found
    except Exception as error:  # noqa: BLE001 - a class that cannot be made of this file
        _log.debug("the tokenizer class of %s does not fit its file: %s", source.name, type(error).__name__)
    return PreTrainedTokenizerFast.from_pretrained(source, trust_remote_code=False)


def _ids(tokenizer: Any, text: str, ends: bool) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=ends).ids
    return ids


def _leave_out(tokens: set[str], tokenizer: Path) -> None:
    """Takes added tokens out of a ``tokenizer.json``: their names in a text are text."""
    if tokens:
        content = json.loads(tokenizer.read_text(encoding="utf-8"))
        content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in tokens]
        tokenizer.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _check_layers(config: Any, source: Path) -> None:
    """A configuration of a million layers would be built, layer by layer, before anything is compared. Raises ModelInvalid."""
    tensors = 0
    for path in source.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            tensors += len(file.keys())
    layers = getattr(config.get_text_config(), "num_hidden_layers", 0)
    if tensors and isinstance(layers, int) and layers > tensors:
        raise ModelInvalid(
            f"{source.name} names {layers:,} layers, and its weights are {tensors:,} tensors",
            "fetch the model again: its config.json does not belong to its weights",
            code="model_unreadable",
        )


def _limits(source: Path) -> SandboxLimits:
    """Torch alone takes a gigabyte; weights of four bits become eight times as large, and lie in memory twice. Where a model needs more
    than the machine has, the machine ends it."""
    files = [source] if source.is_file() else [path for path in source.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    processor = 300 + size // (1 << 20)
    return SandboxLimits(
        memory=(6 << 30) + 24 * size, processor=processor, wait=2.0 * processor, output=1 << 20, written=(1 << 30) + 16 * size
    )
