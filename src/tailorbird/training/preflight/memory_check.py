"""Memory check: whether the longest batch fits into the memory that is free now.

Bytes = weights + gradients and optimiser + what a pass keeps (34 bytes a token, layer and width in 2-byte precision, Korthikanti 2022,
arXiv 2205.05198; the inputs of adapted layers) + one block of logits, or those of all answer tokens where the model makes its own.
The longest row decides, not the mean one (peft#739).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig

from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.preflight import PreflightFinding
from tailorbird.training.batches import divide, packed_tokens
from tailorbird.training.devices import GIB, free_gib, is_gpu, pick_device
from tailorbird.training.forward_proof import proof_of
from tailorbird.training.network import layout_within
from tailorbird.training.preflight.context import PreflightContext, blocking, warning
from tailorbird.training.tokenization import TokenizedRow

#: What allocators and copies take, as multiples of the formula. Measured on two CPU cores: LoRA on 135 M weights, 1.3 GiB above the model.
_CPU_SLACK, _GPU_SLACK = 1.4, 1.1
_LOGIT_ROWS = 256
#: Bytes of a logit that the model itself makes: a cap's output and product, log-probabilities and their gradient in fp32, and one over.
_OWN_LOGIT = 17
#: Names of tensors of a block, with its number.
_BLOCK = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
#: Bytes of a weight in 4 bits with its scales quantised again.
NF4_BYTES = 0.516


def fits(subject: PreflightContext) -> tuple[list[PreflightFinding], dict[str, float]]:
    """Blocking where one longest row does not fit; a warning where only the longest pack does not: it will be divided."""
    device = pick_device()
    slack = _GPU_SLACK if is_gpu(device) else _CPU_SLACK
    needed, longest = _Needed(subject, slack), max(len(row.ids) for row in subject.rows)
    needs, alone, free = needed.largest_pass(), max(needed.of([row]) for row in subject.rows), free_gib(device)
    measured = {"memory_needed_gib": round(needs, 2), "memory_free_gib": round(free, 2)}
    if alone > free:
        what = f"the longest row ({longest} tokens) needs about {alone:.1f} GiB and {free:.1f} are free"
        return [blocking("memory_too_small", what, "end other programs, use a larger machine, or choose qlora")], measured
    if needs > free:
        what = f"the longest batch needs about {needs:.1f} GiB and {free:.1f} are free"
        return [warning("memory_tight", what, "lower token_budget (the result stays the same), or end other programs")], measured
    return [], measured


class _Needed:
    """GiB that passes take, as the rows of the job are laid out."""

    def __init__(self, subject: PreflightContext, slack: float) -> None:
        settings, text = subject.job.settings, subject.text_config
        config = AutoConfig.from_pretrained(subject.job.base, local_files_only=True, trust_remote_code=False)
        proof, hidden, inner = proof_of(config), *_widths(text)
        self._subject, self._slack = subject, slack
        self._layout, self._blockwise = layout_within(config, proof.layout, subject.rows), proof.head_scale is not None
        self._fixed, self._vocabulary = held_gib(subject.job.base, settings), int(text.get("vocab_size") or 0)
        self._kept = _bytes_of(settings) * _blocks(subject.job.base) * (17 * hidden + (3 * hidden + inner if settings.lora else 0))

    def largest_pass(self) -> float:
        """When the longest rows meet in one batch."""
        settings = self._subject.job.settings
        longest = sorted(self._subject.train, key=lambda row: -len(row.ids))[: settings.batch_size]
        return max(self.of(part) for part in divide(longest, settings.token_budget, self._layout))

    def of(self, rows: Sequence[TokenizedRow]) -> float:
        """A pass over ``rows``."""
        tokens = packed_tokens(rows, self._layout)
        logits = 3 * 4 * min(_LOGIT_ROWS, tokens) if self._blockwise else _OWN_LOGIT * sum(row.learned for row in rows)
        return float(self._fixed + self._slack * (tokens * self._kept + self._vocabulary * logits) / GIB)


def held_gib(base: Path, settings: TrainingSettings) -> float:
    """GiB that a run holds throughout: weights, gradients and the optimiser's moments."""
    wide = _bytes_of(settings)
    linear, other = _weights(base)
    if settings.lora is None:
        return (linear + other) * (18 + wide) / GIB
    held = other * wide + linear * (NF4_BYTES if settings.method == "qlora" else wide)
    return (held + _adapter(base, settings.lora) * 20) / GIB


def _bytes_of(settings: TrainingSettings) -> int:
    return 2 if settings.precision == "bf16" else 4


def _weights(base: Path) -> tuple[int, int]:
    """Numbers in the matrices of decoder blocks, and in everything else; read from the files' headers."""
    linear = other = 0
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            for name in names:
                shape = file.get_slice(name).get_shape()
                size = int(torch.Size(shape).numel())
                if len(shape) >= 2 and _BLOCK.search(name):
                    linear += size
                else:
                    other += size
    return linear, other


def _adapter(base: Path, lora: LoraSettings) -> int:
    """Adapter weights, taking every target for as large as the largest layer of a block: an upper bound."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config")
    return _blocks(base) * len(lora.targets) * lora.rank * sum(_widths(text if isinstance(text, dict) else config))


def _widths(config: dict[str, Any]) -> tuple[int, int]:
    """Width of the stream, and the larger one between the two products of a block; four times the first where the config names none."""
    hidden = int(config.get("hidden_size") or config.get("n_embd") or config.get("d_model") or 0)
    inner = config.get("intermediate_size")
    return hidden, int(inner) if isinstance(inner, int) else 4 * hidden


def _blocks(base: Path) -> int:
    """How many blocks the weights hold."""
    numbers = [0]
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            numbers += [1 + int(found[1]) for name in file.keys() if (found := _BLOCK.search(name))]  # noqa: SIM118 - no mapping
    return max(numbers)


def layer_names(base: Path) -> set[str]:
    """Names that layers of the decoder's blocks bear in the files of the weights."""
    found: set[str] = set()
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name.removesuffix(".weight").rpartition(".")[2] for name in file.keys() if _BLOCK.search(name)}  # noqa: SIM118
    return found
