"""The results of the training benchmark, one family at a time.

In: what a family found. Out: benchmarks/results/training.json, in which each family stands with its own date, machine and commit, and the
bars, which are put together from all of them. Must not know: how anything is measured.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sides import ROOT, make_peer_environment

RESULTS = ROOT / "benchmarks" / "results" / "training.json"
_PEER = ("torch=", "trl=", "peft=", "transformers=", "bitsandbytes=")


@dataclass(frozen=True)
class Bar:
    """What is promised, what is hoped for; ``less``: whether less is better."""

    bar: float
    aim: float
    unit: str = "ratio"
    less: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps the promise."""
        return value <= self.bar if self.less else value >= self.bar


BARS = {
    "lora_tokens_vs_trl_best": Bar(2.0, 3.0),
    "lora_tokens_vs_trl_best_sharing": Bar(2.5, 4.0),
    "lora_tokens_vs_trl_best_long_instruction": Bar(6.0, 12.0),
    "lora_tokens_vs_trl_defaults": Bar(3.0, 5.0),
    "flop_share_of_matmul_peak": Bar(0.40, 0.60, "share"),
    "full_tokens_vs_trl_best": Bar(2.0, 3.0),
    "qlora_tokens_vs_trl": Bar(1.5, 3.0),
    "generic_tokens_vs_trl_qwen3": Bar(1.0, 1.5),
    "generic_tokens_vs_trl_gemma3_text": Bar(1.0, 1.5),
    "lora_memory_vs_trl_best": Bar(0.7, 0.5, less=True),
    "lora_memory_vs_trl_best_long_instruction": Bar(0.7, 0.5, less=True),
    "full_memory_vs_trl_best": Bar(0.7, 0.5, less=True),
    "qlora_memory_vs_trl": Bar(0.7, 0.5, less=True),
    "held_out_loss_vs_trl": Bar(1.005, 1.0, less=True),
    "gradient_relative_error": Bar(1e-4, 1e-5, "relative", less=True),
    "seconds_to_first_step": Bar(5.0, 2.0, "seconds", less=True),
}


@dataclass(frozen=True)
class Found:
    """What one family measured: ``values`` of bars, and ``detail`` beside them."""

    family: str
    quick: bool
    threads: int
    seconds: float
    values: dict[str, float]
    detail: dict[str, Any]


def keep(found: Found) -> dict[str, Any]:
    """Puts ``found`` in the place of what its family said before; all results."""
    families = {**_read(), found.family: _family(found)}
    values = {name: value for family in families.values() for name, value in family["values"].items()}
    losses = [family["detail"]["held_out_losses"] for family in families.values() if "held_out_losses" in family["detail"]]
    if len(losses) > 2:
        values["held_out_loss_vs_trl"] = sum(pair["tailorbird"] for pair in losses) / sum(pair["trl"] for pair in losses)
    bars = {name: _judged(bar, values.get(name)) for name, bar in BARS.items()}
    result = {"benchmark": "training", "machine": _machine(found.threads), "commit": _commit(), "bars": bars}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result | {"families": families}, indent=1) + "\n", encoding="utf-8")
    return result


def _read() -> dict[str, Any]:
    families: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")).get("families", {}) if RESULTS.is_file() else {}
    return families


def _family(found: Found) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(found.threads),
        "commit": _commit(),
        "peer": _peer(),
        "mode": "quick" if found.quick else "full",
        "seconds": round(found.seconds),
        "values": found.values,
        "detail": found.detail,
    }


def _judged(bar: Bar, value: float | None) -> dict[str, Any]:
    rounded = None if value is None else float(f"{value:.4g}")
    holds = None if value is None else bar.holds(value)
    return {"value": rounded, "bar": bar.bar, "aim": bar.aim, "unit": bar.unit, "holds": holds, "in": "full" if value is None else "quick"}


def _machine(threads: int) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "threads": threads, "load": round(os.getloadavg()[1], 1)}


def _commit() -> str:
    """The commit that was measured; ``+`` where files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return said.stdout.strip()


def _peer() -> list[str]:
    said = subprocess.run([str(make_peer_environment()), "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
    return sorted(line for line in said.stdout.split() if line.startswith(_PEER))
