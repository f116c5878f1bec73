"""The peer: TRL's SFTTrainer with PEFT, one step at a time. Runs in an environment of its own; knows nothing of tailorbird.

In: a Spec as JSON argument. Out: lines on stdout; the trained adapter in the folder named there.

Variants: ``best`` (bf16 weights where the method allows, length-grouped, no checkpointing), ``defaults`` (TRL's own), and others that were
tried for the best.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer
from workload import ALL_LINEAR, Gate, Memory, Spec


def settings(spec: Spec) -> SFTConfig:
    same: dict[str, Any] = {
        "output_dir": spec.out,
        "max_steps": spec.steps,
        "per_device_train_batch_size": spec.batch_size,
        "learning_rate": spec.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": -(-spec.steps // 10),
        "weight_decay": 0.0,
        "max_length": 2048,
        "completion_only_loss": True,
        "use_cpu": not torch.cuda.is_available(),
        "seed": spec.seed,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataset_num_proc": None,
    }
    best = {"bf16": True, "gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"}
    ways: dict[str, dict[str, Any]] = {
        "defaults": {},
        "best": best,
        "best without autocast": best | {"bf16": False},
        "best padding-free": best | {"padding_free": True},
        "best at our rates": best,
        "best random": best | {"train_sampling_strategy": "random"},
    }
    return SFTConfig(**(same | ways[spec.variant]))


def model(spec: Spec) -> Any:
    """Frozen weights in bf16 (``defaults``: as TRL loads them, fp32), or in NF4 for QLoRA; full weights as our side holds them, in fp32."""
    half = spec.method != "full" and spec.variant != "defaults"
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
    )
    more = {"quantization_config": nf4} if spec.method == "qlora" else {}
    return AutoModelForCausalLM.from_pretrained(spec.base, dtype=torch.bfloat16 if half else torch.float32, **more)


class Counted(SFTTrainer):
    """Counts the tokens of each batch that are not padding."""

    tokens = 0
    ours = False

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The peer's own; or warm-up from the first step on, as on our side."""
        if not self.ours:
            return super().create_scheduler(num_training_steps, optimizer)
        warmup = -(-num_training_steps // 10)

        def share(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_training_steps - warmup)))

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, share)
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        mask = inputs.get("attention_mask")
        self.tokens = int(mask.sum() if mask is not None else inputs["input_ids"].numel())
        return super().training_step(model, inputs, *rest, **more)


class Gated(TrainerCallback):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.trainer: Counted | None = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.gate.wait()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        assert self.trainer is not None
        seconds, cpu = time.perf_counter() - self.gate.started, time.process_time() - self.gate.cpu_started
        self.gate.say("step", seconds=seconds, cpu_seconds=cpu, tokens=self.trainer.tokens)


def main() -> None:
    spec = Spec.load(sys.argv[1])
    torch.set_num_threads(spec.threads)
    rows = json.loads(Path(spec.rows).read_text(encoding="utf-8"))["train"][: spec.steps * spec.batch_size]
    data = Dataset.from_dict(
        {"input_ids": [ids for ids, _ in rows], "completion_mask": [[int(i >= prompt) for i in range(len(ids))] for ids, prompt in rows]}
    )
    torch.manual_seed(spec.seed)
    memory, network = Memory(), model(spec)
    memory.loaded()
    gated = Gated(Gate())
    lora = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, target_modules=list(ALL_LINEAR), lora_dropout=0.0, task_type="CAUSAL_LM")
    trainer = Counted(
        model=network,
        args=settings(spec),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(spec.base),
        peft_config=None if spec.method == "full" else lora,
        callbacks=[gated],
    )
    gated.trainer = trainer
    trainer.ours = spec.variant == "best at our rates"
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    trainer.save_model(spec.out)
    gated.gate.say("done", memory=memory.above(), losses=losses)


if __name__ == "__main__":
    main()
