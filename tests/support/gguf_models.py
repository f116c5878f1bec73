"""Tiny models whose tokenizers llama.cpp can follow, and what a GGUF file of them holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig

from support.model_families import SIZES, write_family
from support.oracle import edit_json
from support.random_models import save_llama
from tailorbird.domain.prompt import PromptSpec
from tailorbird.inference.gguf_export import PROBE, RULES
from tailorbird.ports.model_reader import GgufJob

PROMPT = PromptSpec(instruction="Name the intent.")
TEXTS = ("where is my card?", "I'm told it's 1234 EUR, isn't it?", "ok")


def write_exportable(folder: Path, model_type: str = "llama", rules: str = "qwen2", **config: Any) -> Path:
    """A tiny random model of ``model_type`` with a byte-level tokenizer that cuts as ``rules`` say; ``config`` changes its config."""
    write_family(folder, model_type)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.pre_tokenizer = RULES[rules].cut
    content = json.loads(tokenizer.to_str())
    content["model"]["ignore_merges"] = RULES[rules].ignore_merges
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    if config:
        edit_json(folder / "config.json", **config)
    return folder


def job(source: Path, target: Path, **changes: Any) -> GgufJob:
    facts = {"general.name": "desk 1234", "general.license": "apache-2.0", "general.base_model.0.name": "base", "tailorbird.release": "sha"}
    return GgufJob(**({"source": source, "target": target, "facts": facts, "prompt": PROMPT, "probes": TEXTS} | changes))


def metadata(path: Path) -> dict[str, Any]:
    """Every key of a file, with its value."""
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Every tensor of a file, in fp32."""
    return {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors}


def merging_tokenizer(rules: str, size: int = 700) -> Tokenizer:
    """A tokenizer whose merges run across words as long as nothing cuts them: its tokens show where ``rules`` cut."""
    from tokenizers.trainers import BpeTrainer

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learned.train_from_iterator([PROBE], BpeTrainer(vocab_size=size, initial_alphabet=sorted(alphabet), show_progress=False))
    content = json.loads(learned.to_str())
    content["model"]["ignore_merges"] = RULES[rules].ignore_merges
    made = Tokenizer.from_str(json.dumps(content))
    made.pre_tokenizer = RULES[rules].cut
    return made


def sentence_pieces(size: int = 500) -> Tokenizer:
    """A tokenizer as transformers makes of a SentencePiece model: bytes where there is no character, and a merge for every pair of tokens
    whose union is a token, in the order of the unions."""
    from tokenizers.trainers import BpeTrainer

    learned = Tokenizer(models.BPE())
    learned.normalizer = normalizers.Replace(" ", "▁")
    learned.train_from_iterator([PROBE.replace("🙂", "")], BpeTrainer(vocab_size=size, show_progress=False))
    found = [token for token, _ in sorted(learned.get_vocab().items(), key=lambda each: each[1])]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *found]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    splits = ((token[:place], token[place:]) for token in found for place in range(1, len(token)))
    merges = [pair for pair in splits if set(pair) <= vocabulary.keys()]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made


def write_with_tokenizer(folder: Path, tokenizer: Tokenizer) -> Path:
    """A tiny random Llama with as many rows as ``tokenizer`` has tokens."""
    write_exportable(folder)
    rows = tokenizer.get_vocab_size()
    save_llama(folder, LlamaConfig(**(SIZES | {"vocab_size": rows})))
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    edit_json(folder / "tokenizer_config.json", unk_token="<unk>")
    return folder


def write_gguf_header(path: Path, architecture: str, facts: dict[str, int | bool]) -> Path:
    """A GGUF file that holds facts about a model, and one tensor."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, fact in facts.items():
        writer.add_bool(name, fact) if isinstance(fact, bool) else writer.add_uint32(name, fact)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), dtype=np.float32))
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()
    return path
