"""Models as GGUF files: written tensor by tensor, read back by transformers, and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, LlamaConfig

from tailorbird.domain.errors import Corrupt
from tailorbird.inference.gguf_export.architectures import Architecture, architecture_of, context_of, write_parameters
from tailorbird.inference.gguf_export.tensors import FILE_TYPES, GgmlType, LayerNames, encoded, reordered, size_of, type_of
from tailorbird.inference.gguf_export.vocabulary import write_vocabulary
from tailorbird.inference.model_description import read_config
from tailorbird.inference.transformers_verbosity import quiet
from tailorbird.ports.model_reader import GgufFile, GgufJob
from tailorbird.text.chat_tokenizer import ChatTokenizer
from tailorbird.text.prompt_rendering import messages_for

#: The largest mean divergence, in nats a token, that rounding to a type explains.
TOLERANCE = {GgmlType.F32: 1e-4, GgmlType.F16: 1e-2, GgmlType.BF16: 1e-2, GgmlType.Q8_0: 2e-2}
_FACTORS = "rope_freqs.weight"


class _StoredTensor(NamedTuple):
    """A tensor to write: its name in the file, where it lies, and the type it gets."""

    name: str
    path: Path
    key: str
    shape: tuple[int, ...]
    kind: GgmlType


def write_model(job: GgufJob) -> GgufFile:
    """As ``ModelReader.write_gguf``, of a whole model."""
    config = read_config(job.source)
    architecture = architecture_of(config)
    entries = list(_entries(job, config, architecture))
    kind = max((entry.kind for entry in entries), key=[entry.kind for entry in entries if len(entry.shape) > 1].count)
    writer = gguf.GGUFWriter(job.target, architecture.name)
    try:
        writer.add_type("model")
        write_facts(writer, job.facts)
        writer.add_file_type(FILE_TYPES[kind])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        factors = write_parameters(writer, config)
        write_vocabulary(writer, job.source, config.vocab_size)
        _write(writer, entries, architecture, config, factors)
    finally:
        writer.close()
    divergences = _divergences(job, config, architecture)
    mean = float(divergences.mean())
    if not mean <= TOLERANCE[kind]:
        raise Corrupt(
            f"the GGUF file differs from the model by {mean:.2e} nats a token",
            "do not use it: export with --precision held, or bf16",
            code="gguf_differs",
        )
    return GgufFile(
        name=job.target.name,
        architecture=architecture.name,
        precision=job.precision,
        tensors=len(entries) + (factors is not None),
        size=job.target.stat().st_size,
        positions=len(divergences),
        mean_kl=mean,
        max_kl=float(divergences.max()),
    )


def write_facts(writer: gguf.GGUFWriter, facts: dict[str, str]) -> None:
    """Writes texts by key, in order; the model that this one comes from is counted."""
    if any(key.startswith("general.base_model.0.") for key in facts):
        writer.add_base_model_count(1)
    for key in sorted(facts):
        writer.add_string(key, facts[key])


def _entries(job: GgufJob, config: Any, architecture: Architecture) -> Iterator[_StoredTensor]:
    """Every tensor of the checkpoint that the file gets, in the order of the model's layers. Raises InvalidInput."""
    names = LayerNames(architecture, config.num_hidden_layers)
    held = [(key, path) for path in sorted(job.source.glob("*.safetensors")) for key in _keys(path)]
    for key, path in sorted(held, key=lambda each: [int(part) if part.isdigit() else -1 for part in each[0].split(".")]):
        name = names.of(key)
        if name is None or (name == "output.weight" and config.tie_word_embeddings):
            continue
        with safe_open(path, "pt") as file:
            part = file.get_slice(key)
            shape, dtype = tuple(part.get_shape()), part[:1].dtype
        yield _StoredTensor(name, path, key, shape, type_of(shape, dtype, job.precision))


def _keys(path: Path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def _write(
    writer: gguf.GGUFWriter, entries: Sequence[_StoredTensor], architecture: Architecture, config: Any, factors: np.ndarray[Any, Any] | None
) -> None:
    """Writes everything, holding one tensor at a time. Raises InvalidInput (a number out of range)."""
    if factors is not None:
        writer.add_tensor_info(_FACTORS, factors.shape, factors.dtype, factors.nbytes)
    for entry in entries:
        writer.add_tensor_info(entry.name, entry.shape, np.dtype(np.float32), size_of(entry.shape, entry.kind), raw_dtype=entry.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for entry in entries:
        with safe_open(entry.path, "pt") as file:
            rows = file.get_tensor(entry.key)
        writer.write_tensor_data(encoded(reordered(rows, entry.name, architecture, config), entry.kind, entry.name))


def _divergences(job: GgufJob, config: Any, architecture: Architecture) -> torch.Tensor:
    """KL divergence of the model's next token from the file's, at each place of each probe, in nats."""
    texts = [messages_for(job.prompt, text) for text in job.probes]
    rows = [torch.tensor([ids[: context_of(config)]]) for ids in ChatTokenizer(job.source).prompts(texts)]
    with quiet():
        expected = _log_probabilities(_read(job.source), rows)
        found = _log_probabilities(_read_back(job.target, config, architecture), rows)
    parts = [(p_TV.exp() * (p_TV - q_TV)).sum(dim=-1) for p_TV, q_TV in zip(expected, found, strict=True)]
    return torch.cat(parts).clamp_min(0)


def _read(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )


def _read_back(path: Path, config: Any, architecture: Architecture) -> Any:
    """The file in transformers' own reading of GGUF, which undoes names and order of rows independently of this package."""
    plain = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures", "sliding_window")}
    read_as = LlamaConfig(**plain) if architecture.arch is gguf.MODEL_ARCH.LLAMA else config
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, config=read_as, dtype=torch.float32)


@torch.no_grad()
def _log_probabilities(model: Any, rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Log-probabilities (T, V) of the next token at each place of each row."""
    return [model.eval()(row, use_cache=False).logits[0].float().log_softmax(dim=-1) for row in rows]
