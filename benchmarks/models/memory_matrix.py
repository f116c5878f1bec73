"""Estimates of a training's memory against what trainings take, over families of models: ``memory_matrix.py [FAMILY]...``.

Each run is a process of its own: a random model of 60 to 130 million parameters is trained for two steps by the trainer, and its highest
memory above the resting process is compared with the planner's estimate, made before any step was timed. Written to
``results/models/memory.json``; with names only those are measured, and the others are kept. ``KEPT=1`` measures nothing, and estimates anew
what was measured by runs that this machine has kept.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "tests")]

from result_file import read_rows, this_run, write_rows  # noqa: E402

TARGET = HERE.parent / "results" / "models" / "memory.json"
DIGEST = "sha256:" + "0" * 64
SIZES = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 10, "num_attention_heads": 8, "num_key_value_heads": 4,
         "head_dim": 64, "vocab_size": 49152, "max_position_embeddings": 4096}  # fmt: skip
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 5, "sliding_window": 512}
#: What a family takes beside or instead of ``SIZES``.
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "gemma3_text": {**_ALTERNATING, "query_pre_attn_scalar": 64},
    "gemma2": {**_ALTERNATING, "query_pre_attn_scalar": 64},
    "granite": {},
    "olmo2": {},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0] * 2 + [1, 1]},
    "phi3": {"original_max_position_embeddings": 4096},
    "glm4": {},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 5, "block_ff_dim": 1536, "block_auto_adjust_ff_dim": False},
    "falcon_h1": {"mamba_d_ssm": 1024, "mamba_n_heads": 16, "mamba_d_head": 64, "mamba_d_state": 64, "mamba_chunk_size": 128},
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 512},
    "gpt_oss": {**_ALTERNATING, "num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 384},
    "starcoder2": {},
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 512},
    "olmoe": {"num_experts": 16, "num_experts_per_tok": 4, "intermediate_size": 256},
}
#: Method, precision, rows of a batch, tokens of a pass: two runs of each family.
RUNS = (("lora", "bf16", 16, 2048), ("full", "fp32", 8, 1024))
#: What was measured, and of what the estimate is made.
KEPT = HERE.parent.parent / ".cache" / "benchmarks" / "memory"


@dataclass(frozen=True)
class Work:
    """What the estimates of a training take of ``PlanInputs``."""

    base: Any
    machine: Any
    tokens: Any
    train_rows: int

    def timed(self, settings: Any) -> None:
        """No steps were timed."""


def settings_of(base: Any, method: str, precision: str, batch: int, budget: int) -> Any:
    """What the loop is told: an adapter on all layers that take one, or all weights."""
    from tailorbird.domain.plan import LoraSettings, TrainingSettings

    lora = LoraSettings(rank=16, alpha=32, targets=tuple(base.linear_shapes)) if method != "full" else None
    return TrainingSettings(
        method=method, lora=lora, learning_rate=1e-4, epochs=1, batch_size=batch, token_budget=budget, max_length=4096, warmup=0.1,
        weight_decay=0.0, clip_norm=1.0, evaluations_per_epoch=1, precision=precision, seed=20,
    )  # fmt: skip


def job_of(folder: Path, settings: Any, workspace: Path) -> Any:
    """Two steps on messages of 60 to 300 letters, each a token."""
    from tailorbird.domain.prompt import PromptSpec
    from tailorbird.ports.trainer import Example, TrainingJob

    count = 2 * settings.batch_size + 4
    rows = [Example(text=f"message {n} " + "words and " * (n * 7 % 25), target=f"label {n % 5}") for n in range(count)]
    prompt = PromptSpec(instruction="Classify the customer message.", labels=tuple(f"label {n}" for n in range(5)), list_labels=False)
    return TrainingJob(
        base=folder, base_digest=DIGEST, snapshot=DIGEST, settings=settings, prompt=prompt, train=tuple(rows[:-4]),
        held_out=tuple(rows[-4:]), workspace=workspace,
    )  # fmt: skip


def write_base(folder: Path, family: str) -> Any:
    """The family's random model with a tokenizer, and its description."""
    import torch
    from transformers import AutoConfig

    from support.model_families import write_family
    from tailorbird.base_models import ModelDigests, describe
    from tailorbird.decoders import model_class
    from tailorbird.inference import open_model_reader

    write_family(folder, "llama")
    given = SIZES | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1} | FAMILIES[family]
    config = AutoConfig.for_model(family, **given)
    torch.manual_seed(1)
    model_class(config).from_config(config, dtype=torch.float32).save_pretrained(folder)
    return describe(folder, family, "none", ModelDigests(tree=DIGEST, tokenizer=DIGEST, chat_template=DIGEST), open_model_reader)


def profile_of(folder: Path, job: Any) -> Any:
    """Lengths and layout of the rows, as a plan counts them."""
    from tailorbird.domain.plan import TokenProfile
    from tailorbird.training import open_trainer
    from tailorbird.training.batches import RowTokenizer, shared_prefix

    rows = RowTokenizer(folder).encode(job.prompt, [*job.train, *job.held_out])
    prompts, targets = sorted(row.prompt for row in rows), [len(row.ids) - row.prompt for row in rows]
    return TokenProfile(
        shared_prefix=shared_prefix(rows), prompt_mean=fmean(prompts), prompt_p95=prompts[int(0.95 * (len(prompts) - 1))],
        prompt_max=prompts[-1], target_mean=fmean(targets), target_max=max(targets), label_trie=0,
        row_sd=pstdev([len(row.ids) for row in rows]), layout=open_trainer().row_layout(folder, max(len(row.ids) for row in rows)),
    )  # fmt: skip


def one(family: str, method: str, precision: str, batch: int, budget: int) -> dict[str, Any]:
    """A run in this process, and what its estimate is made of."""
    from tailorbird.training import open_trainer

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "base"
        base = write_base(folder, family)
        settings = settings_of(base, method, precision, batch, budget)
        job = job_of(folder, settings, Path(made) / "work")
        report = open_trainer().train(job, lambda _: None).report
        told = {"base": base, "settings": settings, "tokens": profile_of(folder, job)}
    return {name: value.model_dump(mode="json") for name, value in told.items()} | {
        "rows": len(job.train) + len(job.held_out), "pass": report.environment["pass"], "gib": report.grown_memory_gb,
    }  # fmt: skip


def estimated(found: dict[str, Any]) -> dict[str, Any]:
    """The row of a run: what it took, and the planner's estimate."""
    from tailorbird.domain.base_model import BaseModelRef
    from tailorbird.domain.plan import Machine, TokenProfile, TrainingSettings
    from tailorbird.planning.estimates import grown_memory

    machine = Machine(cores=2, memory_gb=24, gpus=(), fp32_gflops=100, bf16_gflops=100, fast_bf16=True, four_bit=True, threads=2)
    base = BaseModelRef.model_validate(found["base"])
    work = Work(base, machine, TokenProfile.model_validate(found["tokens"]), found["rows"])
    likely = grown_memory(work, TrainingSettings.model_validate(found["settings"])).likely
    return {
        "parameters": base.parameters, "pass": found["pass"], "counted": bool(base.anatomy and base.anatomy.saved),
        "gib": round(found["gib"], 3), "estimate": round(likely, 3), "error": round(likely / found["gib"] - 1, 3),
    }  # fmt: skip


def measured(name: str, case: list[Any]) -> dict[str, Any] | None:
    """What a run in a process of its own says; what is kept of it with ``KEPT``."""
    kept = KEPT / f"{name.replace(' ', '-')}.json"
    if os.environ.get("KEPT"):
        return json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else None
    done = subprocess.run([sys.executable, __file__, "--one", json.dumps(case)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr[-2000:]}")
    KEPT.mkdir(parents=True, exist_ok=True)
    kept.write_text(done.stdout.splitlines()[-1], encoding="utf-8")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def main() -> None:
    """Measures, writes and prints."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(*json.loads(sys.argv[2]))))
        return
    known, run = read_rows(TARGET), this_run()
    for family in sys.argv[1:] or FAMILIES:
        for case in RUNS:
            name = f"{family} {' '.join(map(str, case))}"
            if (found := measured(name, [family, *case])) is not None:
                known[name] = estimated(found) | {"run": run}
                print(name, json.dumps(known[name]), file=sys.stderr, flush=True)
                write_rows(TARGET, known, _bars(known))
    print(json.dumps({"benchmark": "models", "machine": run["machine"], "commit": run["commit"], "bars": _bars(known)}))


def _bars(known: dict[str, Any]) -> dict[str, Any]:
    errors = [abs(row["error"]) for row in known.values()]
    told = {"count": len(known), "families": len({name.partition(" ")[0] for name in known})}
    return told | {"mean": round(fmean(errors), 3), "worst": max(errors), "bar_mean": 0.10, "bar_worst": 0.20}


if __name__ == "__main__":
    main()
