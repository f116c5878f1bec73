"""The plain ways of computing that the engine must equal, and what tests build for it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec

TEXTS = ("my card is lost", "hello", "why was I charged twice for the same purchase last Tuesday?", "top up ☂ été")
LABELS = ("card_lost", "card", "card_lost_abroad", "top_up", "refund")

MakeModel = Callable[..., Path]


def servable(base: Path, name: str = "one", *, adapter: Path | None = None, weights: Path | None = None) -> Servable:
    return Servable(
        id=digest_bytes(name.encode()),
        tenant="acme",
        task=TaskKind.CLASSIFY,
        base=str(base),
        adapter=str(adapter) if adapter else None,
        weights=str(weights) if weights else None,
        prompt=PromptSpec(instruction="Classify.", labels=LABELS),
    )


def conversation(
    text: str, instruction: str = "Name the intent of the customer's message in one word, please, and nothing else."
) -> list[Message]:
    return [Message(role="system", content=instruction), Message(role="user", content=text)]


class Reference:
    """transformers alone: the model's own template through its own tokenizer, one sequence at a time, no cache, no padding."""

    def __init__(self, folder: Path, model: Any = None) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = (model or AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)).eval()

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        text = self.tokenizer.apply_chat_template([m.model_dump() for m in messages], tokenize=False, add_generation_prompt=True)
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @torch.inference_mode()
    def score(self, messages: Sequence[Message], labels: Sequence[str]) -> list[float]:
        """One whole sequence per label, the end of the turn included; normalised over labels."""
        prompt, sums = self.prompt(messages), []
        for label in labels:
            answer = [*self.tokenizer(label, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
            logits = self.model(torch.tensor([prompt + answer])).logits[0].float()
            steps = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
            sums.append(steps[torch.arange(len(answer)), torch.tensor(answer)].sum())
        scores: list[float] = torch.log_softmax(torch.stack(sums), dim=0).tolist()
        return scores

    @torch.inference_mode()
    def generate(self, messages: Sequence[Message], max_tokens: int) -> list[int]:
        """transformers' own greedy generation of one prompt."""
        prompt = torch.tensor([self.prompt(messages)])
        out = self.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=max_tokens, pad_token_id=2
        )
        tokens: list[int] = out[0, prompt.shape[1] :].tolist()
        return tokens


def write_adapter(base: Path, folder: Path, seed: int = 1, **settings: Any) -> Any:
    """A random LoRA adapter, made and saved by PEFT; returns PEFT's model with it."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    options: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "task_type": "CAUSAL_LM",
    }
    base_model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with warnings.catch_warnings():
        # peft asks transformers for a property that transformers has renamed.
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(base_model, LoraConfig(**(options | settings)))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return model.eval()


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
