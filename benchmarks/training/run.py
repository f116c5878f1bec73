"""The training benchmark: our loop against TRL + PEFT at its best setting found, on this machine, in one run.

In: ``--quick``, ``--only FAMILY,...`` or nothing; Banking77 (TAILORBIRD_TEST_DATA). Out: benchmarks/results/training.json, written after
each family; progress on stderr, one JSON object as the last line of stdout. Both sides get the same rows of tokens, threads, seeds and
schedule, and take their steps in turn.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from results import Found, keep
from sides import ROOT, Measured, say, side_by_side
from workload import INSTRUCTION, Spec, read_messages

WORK = ROOT / ".cache" / "benchmarks" / f"training-{os.getpid()}"
#: Families of a quick run, and those that a full one adds.
QUICK = ("gradients", "first_step", "short_instruction", "long_instruction", "full_fine_tuning")
HELD_OUT = ("held_out_loss_1", "held_out_loss_2", "held_out_loss_3", "held_out_loss_rates")
FULL = (
    *QUICK,
    "qlora",
    "generic_qwen3",
    "generic_gemma3",
    *HELD_OUT,
    "peer_search",
)


class Benchmark:
    """What is compared with what: one method a family, each of which leaves ``values`` of bars and ``detail`` beside them."""

    def __init__(self, specs: tuple[Spec, Spec], quick: bool) -> None:
        self.short, self.long = specs
        self.quick = quick
        self.values: dict[str, float] = {}
        self.detail: dict[str, Any] = {}

    def family(self, name: str) -> Found:
        """Measures one family."""
        started, self.values, self.detail = time.monotonic(), {}, {}
        getattr(self, name)()
        return Found(name, self.quick, self.short.threads, time.monotonic() - started, self.values, self.detail)

    def compare(self, specs: Sequence[Spec], label: str) -> list[Measured]:
        """Runs ``specs`` side by side and keeps their figures under ``label``."""
        found = side_by_side([spec.but(out=str(WORK / f"{label}-{place}".replace(" ", "-"))) for place, spec in enumerate(specs)])
        for each in found:
            self.detail.setdefault("measured", {})[each.spec.name] = {
                "tokens_per_second": round(each.tokens_per_second, 1),
                "tokens_per_cpu_second": round(each.tokens_per_cpu_second, 1),
                "steps": len(each.steady),
                "peak_memory_above_model_gib": round(each.memory, 3),
            }
        return found

    def gradients(self) -> None:
        """Every trained parameter, B not zero, against HF + PEFT autograd in fp32."""
        self.detail["gradients"] = _script("exactness.py", self.short.but(batch_size=6 if self.quick else 16))
        self.values["gradient_relative_error"] = self.detail["gradients"]["worst"]

    def first_step(self) -> None:
        """From the call of ``train`` to the end of its first step, the first held-out loss included; the median of three processes."""
        runs = [self.compare([self.short.but(steps=4)], "start-up")[0] for _ in range(3)]
        self.values["seconds_to_first_step"] = median(run.steps[0]["since_call"] for run in runs)
        self.detail["seconds_to_first_step_from_process_start"] = median(run.first_step_seconds for run in runs)

    def short_instruction(self) -> None:
        """One sentence of instruction, prefix sharing on and off, against TRL's best and its defaults."""
        spec = self.short.but(steps=8 if self.quick else 19)
        sides = [spec.but(side="trl", variant="best"), spec.but(side="trl", variant="defaults"), spec, spec.but(variant="prefix sharing")]
        best, defaults, ours, unshared = self.compare(sides, "short instruction")
        self.values["lora_tokens_vs_trl_best"] = _ratio(unshared, best)
        self.values["lora_tokens_vs_trl_best_sharing"] = _ratio(ours, best)
        self.values["lora_tokens_vs_trl_defaults"] = _ratio(ours, defaults)
        self.values["flop_share_of_matmul_peak"] = _flop_share(unshared)
        self.detail["flop_share_with_sharing"] = round(_flop_share(ours), 3)
        self.detail["bf16_matmul_gflops"] = round(median(step["matmul"] for step in unshared.steady) / 1e9, 1)
        self.values["lora_memory_vs_trl_best"] = ours.memory / best.memory

    def long_instruction(self) -> None:
        """An instruction that lists all 77 labels, prefix sharing on."""
        spec = self.long.but(steps=6 if self.quick else 11)
        best, ours = self.compare([spec.but(side="trl", variant="best"), spec], "long instruction")
        self.values["lora_tokens_vs_trl_best_long_instruction"] = _ratio(ours, best)
        self.values["lora_memory_vs_trl_best_long_instruction"] = ours.memory / best.memory
        self.detail["flop_share_long_instruction"] = round(_flop_share(ours), 3)

    def full_fine_tuning(self) -> None:
        """All weights in fp32, multiplied in bf16, on both sides."""
        spec = self.short.but(method="full", steps=6 if self.quick else 13)
        best, ours = self.compare([spec.but(side="trl", variant="best"), spec], "full fine-tuning")
        self.values["full_tokens_vs_trl_best"] = _ratio(ours, best)
        self.values["full_memory_vs_trl_best"] = ours.memory / best.memory

    def qlora(self) -> None:
        """NF4 with scales quantised again, by bitsandbytes on both sides."""
        spec = self.short.but(method="qlora", steps=7 if self.quick else 13)
        best, ours = self.compare([spec.but(side="trl", variant="best"), spec], "qlora")
        self.values["qlora_tokens_vs_trl"] = _ratio(ours, best)
        self.values["qlora_memory_vs_trl"] = ours.memory / best.memory

    def generic_qwen3(self) -> None:
        """transformers' own pass in our loop, on a random base like Qwen3."""
        self._generic("qwen3")

    def generic_gemma3(self) -> None:
        """The same like Gemma 3."""
        self._generic("gemma3_text")

    def _generic(self, family: str) -> None:
        """Beside each setting of the peer that was its best anywhere; the fastest of them counts."""
        sys.path.append(str(ROOT / "benchmarks" / "models"))
        from random_bases import write_random_base

        base = write_random_base(WORK / family, family, Path(self.short.base))
        spec = self.short.but(base=str(base), steps=6 if self.quick else 13)
        peers = [spec.but(side="trl", variant=variant) for variant in ("best", "best without autocast")]
        *theirs, ours = self.compare([*peers, spec], f"generic {family}")
        best = max(theirs, key=lambda each: each.tokens_per_second)
        self.values[f"generic_tokens_vs_trl_{family}"] = _ratio(ours, best)
        self.detail["memory_vs_trl"] = round(ours.memory / best.memory, 3)

    def held_out_loss_1(self) -> None:
        """The same rows, seed 1."""
        self._held_out_loss(1)

    def held_out_loss_2(self) -> None:
        """The same rows, seed 2."""
        self._held_out_loss(2)

    def held_out_loss_3(self) -> None:
        """The same rows, seed 3."""
        self._held_out_loss(3)

    def _held_out_loss(self, seed: int) -> None:
        """After as many steps on the same rows, by stock PEFT in fp32. The bar is the ratio of means over three seeds."""
        spec = self.short.but(steps=12 if self.quick else 24, seed=seed)
        best, ours = self.compare([spec.but(side="trl", variant="best"), spec], f"held-out loss {seed}")
        theirs_ours = _script("held_out.py", spec.but(held_out=128), best.spec.out, str(ours.done["folder"]))
        self.detail["held_out_losses"] = dict(zip(("trl", "tailorbird"), theirs_ours, strict=True))

    def held_out_loss_rates(self) -> None:
        """Seed 1 again, beside the peer with our rates at every step: its own warm-up begins with a step at rate zero."""
        spec = self.short.but(steps=12 if self.quick else 24)
        peers = [spec.but(side="trl", variant=variant) for variant in ("best", "best at our rates")]
        found = self.compare([*peers, spec], "held-out loss, rates")
        folders = [each.spec.out for each in found[:-1]] + [str(found[-1].done["folder"])]
        losses = _script("held_out.py", spec.but(held_out=128), *folders)
        self.detail["held_out_loss_by_setting"] = {each.spec.name: loss for each, loss in zip(found, losses, strict=True)}
        self.detail["training_losses"] = {each.spec.name: [round(loss, 3) for loss in each.done["losses"]] for each in found}

    def peer_search(self) -> None:
        """Other settings of the peer, so that its best is known to be its best."""
        spec = self.short.but(side="trl", steps=8)
        variants = ("best", "best without autocast", "best padding-free", "best random")
        found = self.compare([spec.but(variant=variant) for variant in variants], "peer's settings")
        self.detail["peer_settings"] = {each.spec.variant: round(each.tokens_per_second, 1) for each in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under ten minutes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each side (default: all cores)")
    parser.add_argument("--only", default="", help=f"families, by name, separated by commas: {', '.join(FULL)}")
    options = parser.parse_args()
    benchmark, result = Benchmark(_workloads(options.threads), options.quick), {}
    for family in options.only.split(",") if options.only else QUICK if options.quick else FULL:
        say(family.replace("_", " "))
        found = benchmark.family(family)
        result = keep(found)
        say(json.dumps(found.values | found.detail, indent=1))
    print(json.dumps(result))


def _workloads(threads: int) -> tuple[Spec, Spec]:
    """The short and the long instruction: rows are encoded once, and both sides read the same ids."""
    from tailorbird.base_models import pull
    from tailorbird.domain.prompt import PromptSpec
    from tailorbird.inference import open_model_reader
    from tailorbird.ports.trainer import Example
    from tailorbird.training.batches import RowTokenizer

    base = pull("smollm2-135m", Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")), open_model_reader)
    WORK.mkdir(parents=True)
    atexit.register(shutil.rmtree, WORK, ignore_errors=True)
    encoder, (pairs, labels) = RowTokenizer(base), read_messages(seed=1)
    specs = []
    for long in (False, True):
        prompt = PromptSpec(instruction=INSTRUCTION, labels=tuple(labels), list_labels=long)
        rows = WORK / f"{'long' if long else 'short'}.json"
        parts = {
            name: [(list(row.ids), row.prompt) for row in encoder.encode(prompt, [Example(text=t, target=a) for t, a in some])]
            for name, some in (("train", pairs[:1024]), ("held_out", pairs[-256:]))
        }
        rows.write_text(json.dumps(parts), encoding="utf-8")
        specs.append(Spec("tailorbird", "lora", "", long, 11, str(base), str(rows), "", threads))
    return specs[0], specs[1]


def _ratio(ours: Measured, theirs: Measured) -> float:
    return ours.tokens_per_second / theirs.tokens_per_second


def _flop_share(ours: Measured) -> float:
    """Executed FLOP/s over those of bf16 matmuls measured just before each step."""
    return median(step["flops"] / step["seconds"] / step["matmul"] for step in ours.steady)


def _script(name: str, spec: Spec, *more: str) -> Any:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / name), spec.dump(), *more],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(spec.threads)},
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
