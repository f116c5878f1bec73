"""The runs whose estimates are judged: methods, ranks, batches, lengths, bases.

In: data sets (TAILORBIRD_TEST_DATA), base models. Out: cases and the training jobs they stand for. Must not know: estimates.
"""

from __future__ import annotations

import csv
import json
import math
import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from tailorbird.domain.plan import LoraSettings, TrainingSettings
from tailorbird.domain.prompt import PromptSpec
from tailorbird.ports.trainer import Example, TrainingJob

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data"))
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DIGEST = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Case:
    """One run. ``data`` is ``banking`` (short rows, labels) or ``bitext`` (long answers); ``base`` a name in ``bases.py``."""

    method: str
    base: str = "smollm2"
    data: str = "banking"
    rank: int = 16
    batch: int = 16
    budget: int = 1024
    steps: int = 6
    precision: str = "bf16"
    listed: bool = False

    @property
    def name(self) -> str:
        """How results call it."""
        rank = f" r{self.rank}" if self.method != "full" else ""
        return (
            f"{self.base} {self.method}{rank} {self.data}{' listed' if self.listed else ''} b{self.batch} t{self.budget} {self.precision}"
        )

    def dump(self) -> str:
        """As a command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Case:
        """What ``dump`` wrote."""
        return cls(**json.loads(text))


def rows_of(case: Case) -> tuple[list[Example], tuple[str, ...]]:
    """The rows of a case, shuffled, and the labels where there are any."""
    path, text, target = {
        "banking": (DATA / "banking77" / "train.csv", "text", "category"),
        "bitext": (DATA / "bitext_support" / "bitext_responses_4514.csv", "instruction", "response"),
    }[case.data]
    with path.open(encoding="utf-8", newline="") as file:
        rows = [Example(text=row[text], target=row[target]) for row in csv.DictReader(file)]
    random.Random(7).shuffle(rows)
    labels = tuple(sorted({row.target for row in rows})) if case.data == "banking" else ()
    return rows, labels


def settings_of(case: Case) -> TrainingSettings:
    """What the loop is told."""
    return TrainingSettings(
        method=case.method,
        lora=None if case.method == "full" else LoraSettings(rank=case.rank, alpha=32, targets=ALL_LINEAR),
        learning_rate=1e-4,
        epochs=1,
        batch_size=case.batch,
        token_budget=case.budget,
        max_length=4096,
        warmup=0.1,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=2,
        precision=case.precision,
        seed=20,
    )


def job_of(case: Case, workspace: Path) -> TrainingJob:
    """The job of a case: ``steps`` batches to learn from, and as many rows held out as the planner would hold."""
    rows, labels = rows_of(case)
    count = case.batch * case.steps
    held_out = math.ceil(count / 9)
    return TrainingJob(
        base=base_folder(case.base),
        base_digest=DIGEST,
        snapshot=DIGEST,
        settings=settings_of(case),
        prompt=PromptSpec(instruction="Classify the customer message into one intent.", labels=labels, list_labels=case.listed),
        train=tuple(rows[:count]),
        held_out=tuple(rows[-held_out:]),
        workspace=workspace,
    )


def base_folder(name: str) -> Path:
    """The folder of a base model: the real one, or a random one of another shape that is made once."""
    models = ROOT / ".cache" / "models"
    real = next(path for path in models.glob("smollm2-135m-*") if path.is_dir())
    return real if name == "smollm2" else _random(real, models / "random-wide")


def _random(real: Path, folder: Path) -> Path:
    """A Llama of 8 wide layers with the real one's tokenizer, weights drawn at random: memory and time do not depend on them."""
    if (folder / "model.safetensors").is_file():
        return folder
    import shutil

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(real)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 768, 2048, 8
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 12, 4, 64
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    for companion in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"):
        if (real / companion).is_file():
            shutil.copyfile(real / companion, folder / companion)
    return folder
