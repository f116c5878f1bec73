"""What Ray costs: a whole ``tailorbird adapt`` of the demo on one two-core raylet, against the same without Ray.

In: ``--quick`` (one pair; else three), ``--objective FILE``. Out: benchmarks/results/scale.json (not with ``--quick``), progress on stderr,
one JSON object as the last line of stdout. Each side has a copy of one workspace that knows nothing yet (releases of two workspaces differ
by their salts); both go by two threads, in turn the one or the other first. The bar holds where the median ratio of a pair is at most 1.25,
and both sides ended with the same release.

It starts itself again in a network namespace, because Ray listens beyond loopback, with the interpreter that ``make ray`` made. Run it on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]

from machine import commit, machine  # noqa: E402 - found beside this folder

RESULTS = ROOT / "benchmarks" / "results" / "scale.json"
PYTHON = Path(os.environ.get("TAILORBIRD_RAY_PYTHON", ROOT / ".cache" / "ray" / "bin" / "python"))
INSIDE = "TAILORBIRD_BENCHMARK_INSIDE"
BAR, CORES = 1.25, 2


def main() -> None:
    """Measures, writes and prints."""
    asked = _arguments()
    if INSIDE not in os.environ:
        _enter()
    from support.e2e import Desk
    from support.ray_cluster import ray_cluster

    os.environ |= {
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(CORES),
        "TAILORBIRD_FETCH_ENCODER": "false",
        "TAILORBIRD_MODEL_CACHE": "models",
    }
    pairs = []
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        for number in range(1 if asked.quick else 3):
            place = Path(folder, str(number))
            place.mkdir()
            Desk(place / "new", Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")))
            found: dict[str, dict[str, Any]] = {}
            for side in ("local", "ray") if number % 2 == 0 else ("ray", "local"):
                if side == "ray":
                    with ray_cluster(place, CORES) as cluster:
                        found[side] = _adapt(
                            place / f"workspace-{side}", asked.objective, cluster.environment | {"TAILORBIRD_COMPUTE": "ray"}
                        )
                else:
                    found[side] = _adapt(place / f"workspace-{side}", asked.objective, {})
                print(f"[scale] {number + 1} {side}: {found[side]}", file=sys.stderr, flush=True)
            pairs.append(found)
    _tell(pairs, quick=asked.quick)


def _tell(pairs: list[dict[str, dict[str, Any]]], *, quick: bool) -> None:
    ratio = median(pair["ray"]["seconds"] / pair["local"]["seconds"] for pair in pairs)
    same = all(pair["ray"]["release"] == pair["local"]["release"] for pair in pairs)
    bar = {
        "value": round(ratio, 3),
        "bar": BAR,
        "unit": "ratio",
        "less_is_better": True,
        "same_release": same,
        "holds": same and ratio <= BAR,
    }
    bar |= {"in": "quick" if quick else "full", "commit": commit(), "machine": machine(), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    told = {"benchmark": "scale", "bars": {"adapt_on_one_raylet": bar}}
    if not quick:
        RESULTS.write_text(json.dumps(told | {"pairs": pairs}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--objective", type=Path, default=ROOT / "examples" / "support_desk" / "objective.yaml")
    return parser.parse_args()


def _enter() -> None:
    """This program again, where no network is and what it starts ends with it."""
    if not PYTHON.exists():
        sys.exit("no Ray here: run `make ray` first")
    namespace = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    inside = ["bash", "-c", 'ip link set lo up && exec "$@"', "bash", str(PYTHON), *sys.argv]
    os.execvpe(namespace[0], [*namespace, *inside], os.environ | {INSIDE: "1"})


def _adapt(workspace: Path, objective: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Seconds of the whole command, of each step, and the release."""
    from support.e2e import Desk

    shutil.copytree(workspace.parent / "new", workspace, symlinks=True)
    desk = Desk(workspace, None)
    desk.environment |= environment
    started = time.monotonic()
    status, out, err = desk.call("adapt", str(objective), "--json")
    seconds = time.monotonic() - started
    if status != 0:
        sys.exit(f"adapt ended with {status}:\n{err[-3000:]}")
    (run,) = desk.json("runs", "list")
    steps = desk.json("runs", "show", run["id"])["steps"]
    told = {step["name"]: round(step["seconds"], 1) for step in steps}
    return {"seconds": round(seconds, 1), "release": json.loads(out)["release"], "steps": told}


if __name__ == "__main__":
    main()
