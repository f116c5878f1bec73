"""How far the planner's estimates are from what trainings take: time of the loop, memory of the whole process.

In: base models, data sets. Out: a row a held-out run, and the bars. Steps are timed once a base and method, at one rank, batch and length;
every judged run differs from that in at least one of them. Each run is a process of its own. ``CPU_SECONDS=1`` counts what the processor
spent instead of what passed: for a machine that others use too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from cases import DIGEST, ROOT, Case, base_folder, job_of, settings_of

from tailorbird.base_models import ModelDigests, describe
from tailorbird.domain.dataset import SnapshotManifest, SplitCounts
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Calibration, Machine, Prices, TokenProfile
from tailorbird.planning import PlanInputs
from tailorbird.planning.estimates import loop_time, training_memory

HERE = Path(__file__).resolve().parent
WORK = ROOT / ".cache" / "benchmarks" / "estimates"

#: Runs that the bars ask for.
FEWEST = 16

TIMED = (
    Case("lora"),
    Case("qlora"),
    Case("full"),
    Case("lora", base="random"),
    Case("full", base="random"),
)

JUDGED = (
    Case("lora", rank=8, steps=3),
    Case("lora", rank=64, steps=3),
    Case("lora", batch=4, steps=6),
    Case("lora", batch=48, budget=2048, steps=2),
    Case("lora", batch=32, budget=512, steps=2),
    Case("lora", data="bitext", batch=4, rank=32, steps=2),
    Case("lora", listed=True, batch=8, steps=2),
    Case("qlora", rank=32, batch=8, steps=3),
    Case("qlora", batch=32, budget=2048, steps=2),
    Case("full", batch=4, steps=4),
    Case("full", batch=32, budget=2048, steps=2),
    Case("full", data="bitext", batch=4, steps=2),
    Case("lora", base="random", rank=64, batch=32, budget=2048, steps=3),
    Case("lora", base="random", data="bitext", batch=8, steps=2),
    Case("lora", base="random", batch=64, budget=512, steps=2),
    Case("full", base="random", batch=32, budget=2048, steps=2),
    Case("full", base="random", data="bitext", batch=4, steps=2),
)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def worker(script: str, case: Case) -> dict[str, Any]:
    """What a process of its own says about a case. Kept, so that a run that was ended goes on; ``KEPT=1`` takes only what is there."""
    kept = WORK / f"{script.removesuffix('.py')}-{case.name.replace(' ', '-')}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
    if os.environ.get("KEPT"):
        raise LookupError(case.name)
    with tempfile.TemporaryDirectory() as work:
        done = subprocess.run([sys.executable, str(HERE / script), case.dump(), work], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{case.name} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    WORK.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def inputs_of(case: Case, machine: Machine, timed: tuple[Calibration, ...]) -> PlanInputs:
    """What the planner would be given for a case."""
    from tailorbird.training.batches import RowTokenizer, shared_prefix

    folder = base_folder(case.base)
    job = job_of(case, Path("/nonexistent"))
    rows = RowTokenizer(folder).encode(job.prompt, [*job.train, *job.held_out])
    prompts, targets = sorted(row.prompt for row in rows), [len(row.ids) - row.prompt for row in rows]
    tokens = TokenProfile(
        shared_prefix=shared_prefix(rows),
        prompt_mean=fmean(prompts),
        prompt_p95=prompts[int(0.95 * (len(prompts) - 1))],
        prompt_max=prompts[-1],
        target_mean=fmean(targets),
        target_max=max(targets),
        label_trie=0,
        row_sd=pstdev([len(row.ids) for row in rows]),
    )
    base = describe(folder, case.base, "none", ModelDigests(tree=DIGEST, tokenizer=DIGEST, chat_template=DIGEST))
    return PlanInputs(
        objective=_objective(),
        objective_digest=DIGEST,
        snapshot=DIGEST,
        manifest=_manifest(len(rows)),
        base=base,
        machine=machine,
        tokens=tokens,
        prices=Prices(),
        dev_power=(),
        test_power=(),
        calibrations=timed,
    )


def _objective() -> Objective:
    return Objective.model_validate(
        {
            "name": "estimates",
            "tenant": "bench",
            "business": {"goal": "g", "owner": "o", "risk": "limited"},
            "task": {"kind": "generate", "instruction": "i"},
            "data": [{"path": "d.csv", "source": {"origin": "o", "license": "l"}}],
            "kpis": [{"metric": "exact_match", "target": 0.5}],
        }
    )


def _manifest(rows: int) -> SnapshotManifest:
    return SnapshotManifest(
        tenant="bench",
        objective="estimates",
        rows=DIGEST,
        quarantine=DIGEST,
        read=rows,
        duplicates=0,
        quarantined=0,
        counts=SplitCounts(train=rows, dev=0, test=0),
        label_counts={},
        near_duplicate_groups=0,
        files={},
        salt="s",
        text_length_p95=1,
        text_length_max=1,
        curation="sha256:" + "0" * 64,
        root="00",
        seal="sha256:" + "0" * 64,
    )


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Values of the bars, and the detail beside them."""
    from tailorbird.training import open_trainer

    machine = open_trainer().measure_machine()
    for name in {case.base for case in (*TIMED, *JUDGED)}:
        base_folder(name)  # made outside of what is timed
    timed: dict[tuple[str, str], Calibration] = {}
    for case in TIMED:
        say(f"timing steps: {case.name}")
        timed[case.base, case.method] = Calibration.model_validate(worker("timed.py", case))
    rows = []
    for case in JUDGED[::3] if quick else JUDGED:
        with suppress(LookupError):
            rows.append(_judged(case, machine, timed))
    found = {
        "memory_mean_error": fmean(abs(row["memory_error"]) for row in rows),
        "memory_worst_error": max(abs(row["memory_error"]) for row in rows),
        "time_mean_error": fmean(abs(row["time_error"]) for row in rows),
    }
    # The bars ask for at least 16 runs: fewer are told, and judged by nothing.
    values = found if len(rows) >= FEWEST else {}
    untimed = fmean(abs(row["time_error_without_timing"]) for row in rows)
    clock = "processor seconds, one thread" if os.environ.get("CPU_SECONDS") else "seconds"
    return values, {
        "errors": {name: round(error, 4) for name, error in found.items()},
        "runs": rows,
        "count": len(rows),
        "clock": clock,
        "time_mean_error_without_timing": round(untimed, 3),
    }


def _judged(case: Case, machine: Machine, timed: dict[tuple[str, str], Calibration]) -> dict[str, Any]:
    took = worker("one_run.py", case)
    settings = settings_of(case)
    inputs, bare = (inputs_of(case, machine, known) for known in ((timed[case.base, case.method],), ()))
    memory, seconds, guessed = training_memory(inputs, settings), loop_time(inputs, settings), loop_time(bare, settings)
    row = {
        "run": case.name,
        "memory_gib": round(took["peak_gib"], 3),
        "memory_estimate": round(memory.likely, 3),
        "memory_error": round(memory.likely / took["peak_gib"] - 1, 3),
        "seconds": round(took["loop_seconds"], 2),
        "seconds_estimate": round(seconds.likely, 2),
        "time_error": round(seconds.likely / took["loop_seconds"] - 1, 3),
        "time_error_without_timing": round(guessed.likely / took["loop_seconds"] - 1, 3),
        "memory_error_without_timing": round(training_memory(bare, settings).likely / took["peak_gib"] - 1, 3),
    }
    say(f"{case.name}: memory {row['memory_error']:+.0%}, time {row['time_error']:+.0%}")
    return row
