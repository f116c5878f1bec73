"""A real llama.cpp answers from exported files as transformers and PEFT do from the folders they were made from."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from support.gguf_models import job, merging_tokenizer, write_exportable, write_with_tokenizer
from support.llamacpp import Continuation, continued, divergence, running_llamacpp, tokens_of
from support.oracle import write_adapter
from tailorbird.chat.tokenizer import ChatTokenizer, read_tokenizer
from tailorbird.domain.prompt import Message
from tailorbird.inference import open_model_reader
from tailorbird.inference.gguf_export import ARCHITECTURES, PROBE, RULES

pytestmark = pytest.mark.llamacpp
Record = Callable[[str, object], None]
#: 52 messages, from a word to some lines.
TEXTS = [
    f"{opening} {subject}{ending}"
    for opening in ("Where is", "I want to return", "Please explain", "Wie storniere ich")
    for subject in ("my parcel", "the 2 shirts of order 10432", "a refund", "naïve Bayes 🙂", "the invoice\nfrom 2024-05-17")
    for ending in ("?", ", I'm told it's late!", "")
][:52]
LENGTH, SHOWN = 8, 300
#: Mean KL divergence, in nats a token, of llama.cpp's distributions from those of transformers, by precision of the file.
BOUNDS = {"held": 1e-4, "q8_0": 2e-2}


#: Random weights make tokens nearly as likely as each other; llama.cpp holds keys and values in f16.
TIE = 2e-2


def prompts(folder: Path) -> list[list[int]]:
    instruction = Message(role="system", content="Answer in one sentence.")
    return ChatTokenizer(folder).prompts([(instruction, Message(role="user", content=text)) for text in TEXTS])


@torch.no_grad()
def compared(model: Any, prompt: list[int], found: Continuation, tie: float) -> tuple[bool, list[float]]:
    """Whether the tokens are the model's greedy ones, or as likely within ``tie`` nats, and how far the distributions at each lie apart."""
    ids = torch.tensor([[*prompt, *found.tokens]])
    rows = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(dim=-1)
    chosen = rows.gather(1, torch.tensor(found.tokens)[:, None])[:, 0]
    same = bool((rows.max(dim=-1).values - chosen <= tie).all())
    return same, [divergence(row, seen) for row, seen in zip(rows, found.likeliest, strict=False)]


def agreement(server: httpx.Client, model: Any, folder: Path, count: int = len(TEXTS), tie: float = 0.0) -> tuple[int, float]:
    """How many continuations of the first ``count`` texts have the model's greedy tokens, and the mean divergence."""
    results = [compared(model, ids, continued(server, ids, LENGTH, SHOWN), tie) for ids in prompts(folder)[:count]]
    divergences = [each for _, seen in results for each in seen]
    assert len(divergences) >= count
    return sum(same for same, _ in results), sum(divergences) / len(divergences)


@pytest.fixture(scope="module")
def trained(base_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Path]:
    """An adapter on the real small model that changes what it says, PEFT's model with it, and the merged folder."""
    folder = tmp_path_factory.mktemp("trained")
    write_adapter(base_model_folder, folder / "adapter", seed=3, r=8, lora_alpha=8)
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    save_file(
        {name: t * (0.15 if "lora_B" in name else 1.0) for name, t in weights.items()}, folder / "adapter" / "adapter_model.safetensors"
    )
    from peft import PeftModel

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_model_folder, dtype=torch.float32), folder / "adapter")
    return folder / "adapter", model.eval(), folder


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_real_model_with_an_adapter(
    base_model_folder: Path, trained: tuple[Path, Any, Path], tmp_path: Path, record_property: Record
) -> None:
    _, model, _ = trained
    source = tmp_path / "merged"
    shutil.copytree(base_model_folder, source)
    copy.deepcopy(model).merge_and_unload().save_pretrained(source)
    open_model_reader().write_gguf(job(source, tmp_path / "model.gguf"))
    with running_llamacpp(tmp_path / "model.gguf") as server:
        same, mean = agreement(server, model, base_model_folder)
    record_property("mean_kl", mean)
    assert same == len(TEXTS) >= 50
    assert mean < BOUNDS["held"]


ROPES = {
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
}
VARIANTS = [(model_type, {}) for model_type in sorted(ARCHITECTURES)]
VARIANTS += [("llama", {"rope_parameters": {"rope_type": name, "rope_theta": 10000.0} | more}) for name, more in ROPES.items()]


@pytest.mark.parametrize(("model_type", "config"), VARIANTS)
def test_every_architecture(model_type: str, config: dict[str, Any], tmp_path: Path, record_property: Record) -> None:
    window = {"sliding_window": None} if model_type == "mistral" else {}
    source = write_exportable(tmp_path / "model", model_type, **(config | window))
    speak_ascii(source)
    open_model_reader().write_gguf(job(source, tmp_path / "base.gguf"))
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    with running_llamacpp(tmp_path / "base.gguf") as server:
        same, mean = agreement(server, model, source, 20, TIE)
    record_property("mean_kl", mean)
    assert same == 20
    assert mean < 1e-4


def speak_ascii(source: Path) -> None:
    """Has a random model write letters: of bytes that are no characters the server tells nothing."""
    letters = {number for token, number in read_tokenizer(source).get_vocab().items() if token.isascii() and token.isalnum()}
    held = load_file(source / "model.safetensors")
    head = held["lm_head.weight"]
    for number in set(range(len(head))) - letters:
        head[number] = 0.0
    save_file(held, source / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("rules", sorted(RULES))
def test_every_pretokeniser_cuts_as_its_name_says(rules: str, tmp_path: Path) -> None:
    tokenizer = merging_tokenizer(rules)
    tokenizer.add_special_tokens(["<s>", "</s>"])
    same_tokens(write_with_tokenizer(tmp_path / "model", tokenizer), tokenizer)


def same_tokens(source: Path, tokenizer: Tokenizer) -> None:
    """Also behind a special token, which is where a space may be put."""
    path = source.parent / "model.gguf"
    open_model_reader().write_gguf(job(source, path))
    with running_llamacpp(path) as server:
        for text in (PROBE, *PROBE.splitlines(keepends=True), *TEXTS, "<s>user my</s> card</s><s>assistant"):
            assert tokens_of(server, text) == tokenizer.encode(text, add_special_tokens=False).ids, text
