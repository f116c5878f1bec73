"""Small jobs that a tiny model can learn in seconds, shared by the tests of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.ports.trainer import Example, TrainedModel, TrainingJob
from tailorbird.training.methods import METHODS, Lora

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DIGEST = "sha256:" + "0" * 64
PROMPT = PromptSpec(instruction="Name the colour of the thing.", labels=("blue", "green", "red"), list_labels=True)
PAIRS = [
    ("sky", "blue"),
    ("a leaf in spring", "green"),
    ("blood", "red"),
    ("the sea far out", "blue"),
    ("moss", "green"),
    ("a ripe tomato", "red"),
]


def examples(count: int) -> tuple[Example, ...]:
    return tuple(Example(text=f"{PAIRS[i % 6][0]} {'very ' * (i % 4)}{i}", target=PAIRS[i % 6][1]) for i in range(count))


def has_adapter(method: str) -> bool:
    return isinstance(METHODS[method], Lora)


def adapters() -> dict[str, LoraSettings]:
    """Adapter settings by name: the plain ones, and each option that settings offer, set alone. A new option joins by itself."""
    plain = LoraSettings(rank=4, alpha=8, targets=ALL_LINEAR)
    options = {name: field.default for name, field in LoraSettings.model_fields.items() if not field.is_required()}
    changed = {name: not default if isinstance(default, bool) else 4 * default for name, default in options.items()}
    return {"plain": plain} | {name: plain.model_copy(update={name: value}) for name, value in changed.items()}


def variants() -> list[tuple[str, str]]:
    """Every method with every adapter it can train, by names; a method without adapters has one variant."""
    return [(method, name) for method in sorted(METHODS) for name in (adapters() if has_adapter(method) else ("none",))]


def settings(method: str = "lora", **changes: Any) -> TrainingSettings:
    values: dict[str, Any] = {
        "method": method,
        "lora": adapters()["plain"] if has_adapter(method) else None,
        "learning_rate": 2e-2 if has_adapter(method) else 1e-2,
        "epochs": 2,
        "batch_size": 4,
        "token_budget": 96,
        "max_length": 128,
        "warmup": 0.1,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
        "evaluations_per_epoch": 2,
        "precision": "fp32",
        "seed": 11,
    }
    return TrainingSettings(**(values | changes))


MakeJob = Callable[..., TrainingJob]
TrainWhole = Callable[[TrainingJob], TrainedModel]
