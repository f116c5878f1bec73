"""A tiny random encoder of forty words, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from support.encoders import describe_in_place
from tailorbird.domain.plan import LoraSettings, TrainingSettings

WORDS = [f"w{n}" for n in range(40)]
#: Labels of its texts: those of even and of odd number, and one that none bears.
LABELS = ("even", "odd", "never")


def text_of(number: int) -> str:
    """Two words that tell whether ``number`` is even."""
    return f"w{number % 20} w{(7 * number) % 20 + 20}"


def write_tiny_encoder(folder: Path) -> Path:
    """Two layers of width 32 that know forty words."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=44, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=64
    )
    model: Any = BertModel(config)
    model.save_pretrained(folder)
    words = {name: place for place, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return describe_in_place(folder, 64)


#: Linear layers of the tiny encoder that an adapter changes.
TARGETS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")


def tuning_settings(method: str, learning_rate: float, epochs: int, batch_size: int) -> TrainingSettings:
    """How the tiny encoder is tuned: short passes in fp32."""
    return TrainingSettings(
        method=method,  # type: ignore[arg-type]
        lora=LoraSettings(rank=4, alpha=32, targets=TARGETS) if method == "lora" else None,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        token_budget=512,
        max_length=64,
        warmup=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1,
        precision="fp32",
        seed=1,
    )
