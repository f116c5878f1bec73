"""Estimates that were made beside other work, against what a quiet machine takes.

In: base models, data sets, a machine that is quiet when this starts. Out: the worst factor between an estimate made beside one busy process
a core and the time that the run took alone; how many rungs such a reading would leave out of a budget that just holds them; the factor
between matmul rates measured alone and beside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cases import ROOT, Case, base_folder, settings_of
from estimates import HERE, inputs_of, say

from tailorbird.domain.plan import Machine
from tailorbird.domain.plan import Calibration
from tailorbird.planning.estimates import loop_time

sys.path.insert(0, str(ROOT / "benchmarks" / "training"))

#: What is estimated and then run, each differing from what is timed in rank, batch or length.
JUDGED = {"lora": Case("lora", rank=8, batch=8, steps=4), "full": Case("full", batch=8, steps=3)}
TIMED = {"lora": Case("lora"), "full": Case("full")}
_MACHINE = "from tailorbird.training import open_trainer; print(open_trainer().measure_machine().model_dump_json())"


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Values of the bars, and the detail beside them."""
    from load import busy

    for case in JUDGED.values():
        base_folder(case.base)
    cores = len(os.sched_getaffinity(0))
    machines = []
    rows: list[dict[str, Any]] = []
    for count in (0, cores):
        with ExitStack() as beside:
            beside.enter_context(busy(count))
            machines.append(Machine.model_validate_json(_said("-c", _MACHINE)))
            for method in ("lora",) if quick else tuple(JUDGED):
                say(f"timing steps of {method} beside {count} busy processes")
                rows.append({"method": method, "busy": count, "timed": _timed(TIMED[method])})
    for row in rows:
        case, timed = JUDGED[row["method"]], row.pop("timed")
        estimate = loop_time(inputs_of(case, machines[0], (timed,)), settings_of(case))
        row |= {"loaded": timed.loaded, "efficiency": timed.efficiency, "estimate": estimate.likely, "low": estimate.low}
    took = {method: _took(JUDGED[method]) for method in {row["method"] for row in rows}}
    for row in rows:
        row |= {"took_alone": took[row["method"]], "factor": row["estimate"] / took[row["method"]]}
        say(f"{row['method']} timed beside {row['busy']}: {row['estimate']:.1f} s for {row['took_alone']:.1f} s")
    beside_work = [row for row in rows if row["busy"]]
    rates = [machine.bf16_gflops for machine in machines]
    values = {
        "estimate_beside_load_factor": max(max(row["factor"], 1 / row["factor"]) for row in beside_work),
        "left_out_beside_load": sum(row["low"] > row["took_alone"] for row in beside_work),
        "matmul_beside_load_factor": max(rates) / min(rates),
    }
    told = [{name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()} for row in rows]
    return values, {"runs": told, "bf16_gflops_alone_and_beside": rates}


def _timed(case: Case) -> Calibration:
    with tempfile.TemporaryDirectory() as work:
        return Calibration.model_validate_json(_said(str(HERE / "timed.py"), case.dump(), work).splitlines()[-1])


def _took(case: Case) -> float:
    with tempfile.TemporaryDirectory() as work:
        said: dict[str, Any] = json.loads(_said(str(HERE / "one_run.py"), case.dump(), str(Path(work) / "run")).splitlines()[-1])
    return float(said["loop_seconds"])


def _said(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout
