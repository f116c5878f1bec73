"""The benchmark of decisions: estimates against what trainings take; ranking against untuned fusion; objectives with known answers.

In: ``--quick`` or nothing, ``--only FAMILY``. Out: benchmarks/results/decision.json, progress on stderr, one JSON object as the last line
of stdout. A family that was not run keeps its committed values, with ``in: full``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "decision.json"

#: Family: its bars as name: (bar, aim, unit, whether less is better).
FAMILIES: dict[str, dict[str, tuple[float, float, str, bool]]] = {
    "estimates": {
        "memory_mean_error": (0.10, 0.05, "share", True),
        "memory_worst_error": (0.20, 0.10, "share", True),
        "time_mean_error": (0.20, 0.10, "share", True),
    },
    "ranking": {"cranfield_tuned_minus_fusion_low": (0.0, 0.02, "nDCG@10", False)},
    "banking77": {"banking77_all_low": (0.92, 0.94, "accuracy", False), "banking77_every_low": (0.92, 0.94, "accuracy", False)},
    "encoder": {
        "encoder_minus_floor_10_low": (0.0, 0.01, "accuracy", False),
        "encoder_minus_floor_40_low": (0.0, 0.01, "accuracy", False),
        "encoder_seconds": (300, 120, "s", True),
    },
    "out_of_scope": {"out_of_scope_auroc": (0.90, 0.95, "area under the ROC curve", False)},
    "setfit": {
        "encoder_minus_setfit_low": (-0.01, 0.0, "accuracy", False),
        "encoder_of_setfit_seconds": (0.5, 0.25, "share", True),
    },
    "objectives": {"wrong_decisions": (1, 0, "objectives", True), "objectives_decided": (19, 19, "objectives", False)},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=FAMILIES, action="append")
    asked = parser.parse_args()
    written: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"bars": {}, "detail": {}}
    for family in asked.only or (["estimates"] if asked.quick else list(FAMILIES)):
        values, detail = importlib.import_module(family).run(asked.quick)
        written["bars"] |= {name: _bar(FAMILIES[family][name], value, asked.quick) for name, value in values.items()}
        written["detail"][family] = detail | {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": _commit()}
    written |= {"benchmark": "decision", "machine": _machine(), "commit": _commit()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: written[key] for key in ("benchmark", "machine", "commit", "bars")}))


def _bar(known: tuple[float, float, str, bool], value: float, quick: bool) -> dict[str, Any]:
    bar, aim, unit, less = known
    holds = value <= bar if less else value > bar
    return {"value": round(value, 4), "bar": bar, "aim": aim, "unit": unit, "holds": holds, "in": "quick" if quick else "full"}


def _machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()}


def _commit() -> str:
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    main()
