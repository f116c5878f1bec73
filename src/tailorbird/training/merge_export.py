"""Merge of an adapter into its base: one model in Hugging Face form that any engine loads.

Weights are added in fp32 and rounded once, to the type that the base is held in. Merging into a quantised base, or rounding an adapter into
four bits, is where merged models have lost what was learned (peft#2321, transformers#31293), so there is no way to ask for it here.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig
from transformers.utils import logging as transformers_verbosity

from tailorbird.base_models.adapter_format import (
    TENSORS_FILE,
    AdapterChange,
    adapter_changes,
    check_fit,
    refused_adapter,
    unreadable_adapter,
)
from tailorbird.decoders import divergences, model_class, next_token_nats
from tailorbird.domain.errors import Corrupt
from tailorbird.ports.trainer import Merged, MergeJob
from tailorbird.system.process import model_load
from tailorbird.training.batches import RowTokenizer

#: Everything of a base model's folder that a merged model has too; weights are rewritten.
_COMPANIONS = ("*.json", "*.jinja", "*.model", "*.txt")
#: The largest mean divergence, in nats a token, that rounding explains: far below what moves an answer.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 1e-2}
#: transformers leaves these functions untyped.
_logging: Any = transformers_verbosity


def merge(job: MergeJob) -> Merged:
    """Merges, writes and compares. Raises as ``Trainer.merge``; what was written stays for inspection."""
    try:
        tensors = load_file(job.adapter / TENSORS_FILE)
    except (OSError, SafetensorError) as error:
        raise unreadable_adapter(job.adapter, TENSORS_FILE) from error
    dtype = _write(job, adapter_changes(job.adapter, tensors))
    rows = [torch.tensor([row.ids]) for row in RowTokenizer(job.base, thinking=job.prompt.thinking).encode(job.prompt, job.probes)]
    apart = divergences(_log_probabilities(job.base, job.adapter, rows), _log_probabilities(job.target, None, rows))
    merged = Merged(
        positions=len(apart),
        mean_kl=float(apart.mean()),
        max_kl=float(apart.max()),
        dtype=str(dtype).removeprefix("torch."),
    )
    if not merged.mean_kl <= TOLERANCE[dtype]:
        raise Corrupt(
            f"the merged model differs from base and adapter by {merged.mean_kl:.2e} nats a token",
            "do not use it: merge again into the unquantised base that the adapter was trained for",
        )
    return merged


def _write(job: MergeJob, layers: dict[str, AdapterChange]) -> torch.dtype:
    """Writes each file of weights with its layers merged, one file at a time; the type of the merged weights. Where the files name tensors
    otherwise than the model does, it is read and written whole."""
    if not {f"{layer}.weight" for layer in layers} <= set(_names(job.base)):
        return _write_whole(job, layers)
    dtype = torch.float32
    for path in sorted(job.base.glob("*.safetensors")):
        tensors = load_file(path)
        for name in [name for name in tensors if name.removesuffix(".weight") in layers]:
            layer = name.removesuffix(".weight")
            tensors[name], dtype = _merged(tensors[name], job.adapter, layer, layers[layer]), tensors[name].dtype
        with safe_open(path, framework="pt") as file:
            save_file(tensors, job.target / path.name, metadata=file.metadata())
    _copy_companions(job)
    return dtype


def _names(folder: Path) -> Iterator[str]:
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            yield from file.keys()


def _write_whole(job: MergeJob, layers: dict[str, AdapterChange]) -> torch.dtype:
    model = _read_model(job.base)
    for path, change in layers.items():
        try:
            layer = model.get_submodule(path)
        except AttributeError as error:
            raise refused_adapter(job.adapter, f"the base has no layer {path}") from error
        layer.weight.data = _merged(layer.weight.data, job.adapter, path, change)
    model.save_pretrained(job.target, max_shard_size="1000GB")
    _copy_companions(job)
    dtype: torch.dtype = model.dtype
    return dtype


def _copy_companions(job: MergeJob) -> None:
    for pattern in _COMPANIONS:
        for path in job.base.glob(pattern):
            shutil.copyfile(path, job.target / path.name)


def _merged(weight_OI: torch.Tensor, adapter: Path, path: str, change: AdapterChange) -> torch.Tensor:
    """W + s B A, in fp32, rounded once."""
    outputs, inputs = weight_OI.shape
    check_fit(adapter, path, change, (inputs, outputs))
    if weight_OI.dtype not in TOLERANCE:
        raise refused_adapter(adapter, f"the base is held in {weight_OI.dtype}, into which nothing can be merged without loss")
    whole_OI = torch.addmm(weight_OI.float(), change.up_OR.float(), change.down_RI.float(), alpha=change.scaling)
    return whole_OI.to(weight_OI.dtype)


def _read_model(folder: Path) -> Any:
    _logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with model_load:
        return model_class(config).from_pretrained(
            folder, dtype="auto", local_files_only=True, trust_remote_code=False, use_safetensors=True
        )


def _log_probabilities(folder: Path, adapter: Path | None, rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """As ``next_token_nats``, by the model in ``folder`` and an adapter."""
    model = _read_model(folder)
    if adapter is not None:
        from peft import PeftModel

        with warnings.catch_warnings():
            # PEFT asks transformers by an old name.
            warnings.simplefilter("ignore", FutureWarning)
            model = PeftModel.from_pretrained(model, adapter)
    return next_token_nats(model, rows)
