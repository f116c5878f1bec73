"""The training benchmark: our loop against TRL + PEFT at its best setting found, on this machine, in one run.

In: ``--quick`` or nothing; Banking77 (TAILORBIRD_TEST_DATA). Out: benchmarks/results/training.json, progress on stderr, one JSON object as the
last line of stdout. Both sides get the same rows of tokens, threads, seeds and schedule, and take their steps in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from sides import ROOT, Measured, make_peer_environment, say, side_by_side
from workload import INSTRUCTION, Spec, read_messages

RESULTS = ROOT / "benchmarks" / "results" / "training.json"
WORK = ROOT / ".cache" / "benchmarks" / "training"

#: name: (bar, aim, unit, whether less is better)
BARS: dict[str, tuple[float, float, str, bool]] = {
    "lora_tokens_vs_trl_best": (2.0, 3.0, "ratio", False),
    "lora_tokens_vs_trl_best_sharing": (2.5, 4.0, "ratio", False),
    "lora_tokens_vs_trl_best_long_instruction": (6.0, 12.0, "ratio", False),
    "lora_tokens_vs_trl_defaults": (3.0, 5.0, "ratio", False),
    "flop_share_of_matmul_peak": (0.40, 0.60, "share", False),
    "full_tokens_vs_trl_best": (2.0, 3.0, "ratio", False),
    "qlora_tokens_vs_trl": (1.5, 3.0, "ratio", False),
    "lora_memory_vs_trl_best": (0.7, 0.5, "ratio", True),
    "lora_memory_vs_trl_best_long_instruction": (0.7, 0.5, "ratio", True),
    "full_memory_vs_trl_best": (0.7, 0.5, "ratio", True),
    "qlora_memory_vs_trl": (0.7, 0.5, "ratio", True),
    "held_out_loss_vs_trl": (1.005, 1.0, "ratio", True),
    "gradient_relative_error": (1e-4, 1e-5, "relative", True),
    "seconds_to_first_step": (5.0, 2.0, "seconds", True),
}


def main() -> None:
    options = _options()
    specs = _workloads(options.threads)
    values: dict[str, float] = {}
    extra: dict[str, Any] = {}
    started = time.monotonic()
    for part in _parts(options.quick):
        if options.only and part.__name__.strip("_") not in options.only.split(","):
            continue
        say(f"{part.__name__.strip('_').replace('_', ' ')} (after {time.monotonic() - started:.0f} s)")
        part(specs, options.quick, values, extra)
    _write(values, extra, options, time.monotonic() - started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under ten minutes")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", help="parts, by name, separated by commas")
    return parser.parse_args()


def _parts(quick: bool) -> list[Any]:
    always = [_gradients, _first_step, _short_instruction, _long_instruction, _full]
    return always if quick else [*always, _held_out_losses, _ablation, _peer_search]


def _workloads(threads: int) -> tuple[Spec, Spec]:
    """The short and the long instruction: rows are encoded once, and both sides read the same ids."""
    from tailorbird.domain.prompt import PromptSpec
    from tailorbird.inference import open_model_reader
    from tailorbird.models import pull
    from tailorbird.ports.trainer import Example
    from tailorbird.training.encoding import Encoder

    base = pull("smollm2-135m", Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")), open_model_reader)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    encoder, (pairs, labels) = Encoder(base), read_messages(seed=1)
    specs = []
    for long in (False, True):
        prompt = PromptSpec(instruction=INSTRUCTION, labels=tuple(labels), list_labels=long)
        rows = WORK / f"{'long' if long else 'short'}.json"
        parts = {
            name: [(list(row.ids), row.prompt) for row in encoder.encode(prompt, [Example(text=t, target=a) for t, a in some])]
            for name, some in (("train", pairs[:2048]), ("held_out", pairs[-256:]))
        }
        rows.write_text(json.dumps(parts), encoding="utf-8")
        specs.append(Spec("tailorbird", "lora", "", long, 11, str(base), str(rows), "", threads))
    return specs[0], specs[1]


def _compare(specs: Sequence[Spec], label: str, extra: dict[str, Any]) -> list[Measured]:
    """Runs ``specs`` side by side and keeps their figures under ``label``."""
    placed = [spec.but(out=str(WORK / f"{label}-{place}")) for place, spec in enumerate(specs)]
    found = side_by_side(placed)
    for each in found:
        extra.setdefault("measured", {})[f"{label}: {each.spec.name}"] = {
            "tokens_per_second": round(each.tokens_per_second, 1),
            "tokens_per_cpu_second": round(each.tokens_per_cpu_second, 1),
            "steps": len(each.steady),
            "peak_memory_above_model_gib": round(each.memory, 3),
            "first_step_seconds_from_process_start": round(each.first_step_seconds, 1),
        }
    return found


def _ratio(ours: Measured, theirs: Measured) -> float:
    return ours.tokens_per_second / theirs.tokens_per_second


def _short_instruction(specs: tuple[Spec, Spec], quick: bool, values: dict[str, float], extra: dict[str, Any]) -> None:
    spec = specs[0].but(steps=11 if quick else 19)
    sides = [spec.but(side="trl", variant="best"), spec.but(side="trl", variant="defaults"), spec, spec.but(variant="prefix sharing")]
    best, defaults, ours, unshared = _compare(sides, "short instruction", extra)
    values["lora_tokens_vs_trl_best"] = _ratio(unshared, best)
    values["lora_tokens_vs_trl_best_sharing"] = _ratio(ours, best)
    values["lora_tokens_vs_trl_defaults"] = _ratio(ours, defaults)
    values["flop_share_of_matmul_peak"] = median(step["flops"] / step["seconds"] / step["matmul"] for step in unshared.steady)
    extra["flop_share_with_sharing"] = median(step["flops"] / step["seconds"] / step["matmul"] for step in ours.steady)
    extra["bf16_matmul_gflops"] = round(median(step["matmul"] for step in unshared.steady) / 1e9, 1)
    values["lora_memory_vs_trl_best"] = ours.memory / best.memory


def _long_instruction(specs: tuple[Spec, Spec], quick: bool, values: dict[str, float], extra: dict[str, Any]) -> None:
    spec = specs[1].but(steps=6 if quick else 11)
    best, ours = _compare([spec.but(side="trl", variant="best"), spec], "long instruction", extra)
    values["lora_tokens_vs_trl_best_long_instruction"] = _ratio(ours, best)
    values["lora_memory_vs_trl_best_long_instruction"] = ours.memory / best.memory


def _full(specs: tuple[Spec, Spec], quick: bool, values: dict[str, float], extra: dict[str, Any]) -> None:
    spec = specs[0].but(method="full", steps=8 if quick else 13)
    best, ours = _compare([spec.but(side="trl", variant="best"), spec], "full fine-tuning", extra)
    values["full_tokens_vs_trl_best"] = _ratio(ours, best)
    values["full_memory_vs_trl_best"] = ours.memory / best.memory


def _held_out_losses(specs: tuple[Spec, Spec], quick: bool, values: dict[str, float], extra: dict[str, Any]) -> None:
    """The same steps, three seeds; the ratio of means."""
    pairs = []
    for seed in (1, 2, 3):
        spec = specs[0].but(steps=40, seed=seed)
        best, ours = _compare([spec.but(side="trl", variant="best"), spec], f"held-out loss, seed {seed}", extra)
        pairs.append(_script("held_out.py", spec.but(held_out=256), best.spec.out, str(ours.done["folder"])))
    values["held_out_loss_vs_trl"] = sum(ours for _, ours in pairs) / sum(theirs for theirs, _ in pairs)
    extra["held_out_losses"] = [{"trl": theirs, "tailorbird": ours} for theirs, ours in pairs]


def _gradients(specs: tuple[Spec, Spec], quick: bool, values: dict[str, float], extra: dict[str, Any]) -> None:
    extra["gradients"] = _script("exactness.py", specs[0].but(batch_size=6 if quick else 16))
    values["gradient_relative_error"] = extra["gradients"]["worst"]


def _first_step(specs: tuple[Spec, Spec], quick: bool, values: dict[str, float], extra: dict[str, Any]) -> None:
    """From the start of a process to the end of its first step, imports and the first held-out loss included; the median of three."""
    runs = [_compare([specs[0].but(steps=4)], "start-up", extra)[0].first_step_seconds for _ in range(3)]
    values["seconds_to_first_step"] = median(runs)


def _ablation(specs: tuple[Spec, Spec], quick: bool, values: dict[str, float], extra: dict[str, Any]) -> None:
    """Each trick taken away alone, all in turn."""
    from ablations import TRICKS

    table: dict[str, Any] = {}
    for spec, steps in ((specs[0], 9), (specs[1], 7)):
        found = _compare([spec.but(steps=steps, variant=trick) for trick in ("", *TRICKS)], "ablation", extra)
        for each in found[1:]:
            table[f"{each.spec.variant}, {'long' if spec.long else 'short'} instruction"] = {
                "speed_without": round(_ratio(each, found[0]), 3),
                "memory_without": round(each.memory / found[0].memory, 3),
            }
    extra["ablation"] = table


def _peer_search(specs: tuple[Spec, Spec], quick: bool, values: dict[str, float], extra: dict[str, Any]) -> None:
    """Other settings of the peer, so that its best is known to be its best."""
    spec = specs[0].but(side="trl", steps=8)
    variants = ("best", "best without autocast", "best padding-free", "best random")
    found = _compare([spec.but(variant=variant) for variant in variants], "peer's settings", extra)
    extra["peer_settings"] = {each.spec.variant: round(each.tokens_per_second, 1) for each in found}


def _script(name: str, spec: Spec, *more: str) -> Any:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / name), spec.dump(), *more],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(spec.threads)},
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _bar(name: str, values: dict[str, float]) -> dict[str, Any]:
    bar, aim, unit, less = BARS[name]
    value = values.get(name)
    holds = None if value is None else (value <= bar if less else value >= bar)
    rounded = None if value is None else float(f"{value:.4g}")
    return {"value": rounded, "bar": bar, "aim": aim, "unit": unit, "holds": holds, "in": "full" if value is None else "quick"}


def _write(values: dict[str, float], extra: dict[str, Any], options: argparse.Namespace, seconds: float) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    peer = subprocess.run([str(make_peer_environment()), "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout.split()
    result = {
        "benchmark": "training",
        "machine": {"cpu": _cpu(), "cores": len(os.sched_getaffinity(0)), "threads": options.threads, "load": os.getloadavg()[1]},
        "commit": commit,
        "bars": {name: _bar(name, values) for name in BARS},
    }
    named = ("torch=", "trl=", "peft=", "transformers=", "bitsandbytes=")
    detail = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "mode": "quick" if options.quick else "full",
        "seconds": round(seconds),
        "peer": sorted(line for line in peer if line.startswith(named)),
        **extra,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    if not options.only:
        RESULTS.write_text(json.dumps(result | detail, indent=1) + "\n", encoding="utf-8")
    else:
        say(json.dumps(detail, indent=1))
    print(json.dumps(result))


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
