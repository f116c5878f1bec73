"""What Ray costs, and what it withstands: whole runs on raylets of this machine, against the same without Ray, and with something killed.

In: ``--only`` one of ``adapt`` (a whole ``tailorbird adapt`` of the demo on one two-core raylet ÷ local, both by two threads), ``pair``
(two such at once on two one-core raylets ÷ two local processes of one thread each) and ``kills`` (the faults' small story on Ray,
PostgreSQL and S3, with one kill in each, of worker, raylet, head, driver, database and S3 in turn, at moments drawn by ``--seed``; one that
was over before its kill does not count); else all of these. ``--pairs`` (3) and ``--points`` (36) say how many; ``--quick``: one pair,
and six kills. ``--objective FILE`` in place of the
demo's. Out: bars in benchmarks/results/scale.json (not with ``--quick``), progress on stderr, one JSON object as the last line of stdout.

Each side has a copy of one workspace that knows nothing yet (releases of two workspaces differ by their salts), in turn the one or the
other first. A bar holds where the median ratio of a pair is at most 1.25, and both sides ended with the same release; that of kills, where
every story ended with the release of one that nothing disturbed, within 90 s.

It starts itself again in a network namespace, because Ray listens beyond loopback, with the interpreter that ``make ray`` made. Run it on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
BAR, BAR_POINTS, QUICK_POINTS, BAR_SECONDS = 1.25, 30, 6, 90.0


def main() -> None:
    """Measures, writes and prints."""
    asked = _arguments()
    if INSIDE not in os.environ:
        _enter()
    given = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ |= given | {"TAILORBIRD_FETCH_ENCODER": "false", "TAILORBIRD_MODEL_CACHE": "models"}
    ways: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "adapt": lambda asked: _ratio(asked, together=1, raylets=(2,)),
        "pair": lambda asked: _ratio(asked, together=2, raylets=(1, 1)),
        "kills": _kills,
    }
    return _tell(asked, {BARS[way]: measure(asked) for way, measure in ways.items() if asked.only in ("", way)})


def _tell(asked: argparse.Namespace, bars: dict[str, dict[str, Any]]) -> None:
    about = {"in": "quick" if asked.quick else "full", "commit": commit(), "machine": machine(), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    bars = {name: bar | about for name, bar in bars.items()}
    if not asked.quick:
        before = json.loads(RESULTS.read_text(encoding="utf-8"))["bars"] if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({"benchmark": "scale", "bars": before | bars}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"benchmark": "scale", "bars": bars}))


BARS = {
    "adapt": "adapt_on_one_raylet",
    "pair": "two_adapts_on_two_raylets",
    "kills": "killed_stories",
}


def _ratio(asked: argparse.Namespace, together: int, raylets: tuple[int, ...]) -> dict[str, Any]:
    """How many times longer ``together`` runs take on Ray, all at once; as many threads each as a raylet has cores."""
    from support.e2e import Desk
    from support.ray_cluster import ray_cluster

    os.environ |= {"OMP_NUM_THREADS": str(raylets[0]), "TAILORBIRD_TRAINING_PROCESSES": "0"}
    pairs = []
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        for number in range(1 if asked.quick else asked.pairs):
            place = Path(folder, str(number))
            place.mkdir()
            Desk(place / "new", Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")))
            found: dict[str, list[dict[str, Any]]] = {}
            for side in ("local", "ray") if number % 2 == 0 else ("ray", "local"):
                workspaces = [place / f"workspace-{side}-{each}" for each in range(together)]
                if side == "ray":
                    with ray_cluster(place, *raylets) as cluster:
                        found[side] = _adapt(workspaces, asked.objective, cluster.environment | {"TAILORBIRD_COMPUTE": "ray"})
                else:
                    found[side] = _adapt(workspaces, asked.objective, {})
                print(f"[scale] {number + 1} {side}: {found[side]}", file=sys.stderr, flush=True)
            pairs.append(found)
    ratios = [max(run["seconds"] for run in pair["ray"]) / max(run["seconds"] for run in pair["local"]) for pair in pairs]
    same = all(len({run["release"] for side in pair.values() for run in side}) == 1 for pair in pairs)
    bar = {"value": round(median(ratios), 3), "bar": BAR, "unit": "ratio", "less_is_better": True, "same_release": same}
    return bar | {"holds": same and median(ratios) <= BAR, "load": round(os.getloadavg()[0], 1), "pairs": pairs}


def _kills(asked: argparse.Namespace) -> dict[str, Any]:
    """How many stories ended as one that nothing disturbed, in time."""
    from support.cluster_story import in_namespace

    count = QUICK_POINTS if asked.quick else asked.points
    stories: list[dict[str, Any]] = []
    with subprocess.Popen(in_namespace(count, asked.seed), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            stories.append(json.loads(line))
            print(f"[scale] {line.strip()}", file=sys.stderr, flush=True)
    release = stories[0]["release"] if stories else ""
    killed = [story for story in stories[1:] if story["step"] or not story["release"]]
    good = [story for story in killed if story["release"] == release and story["seconds"] <= BAR_SECONDS]
    bar = {"value": len(good), "bar": BAR_POINTS, "unit": "stories", "less_is_better": False, "seed": asked.seed}
    holds = process.returncode == 0 and len(good) == len(killed) and len(good) >= BAR_POINTS
    return bar | {"holds": holds, "load": round(os.getloadavg()[0], 1), "stories": stories}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=sorted(BARS), default="")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--points", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--objective", type=Path, default=ROOT / "examples" / "support_desk" / "objective.yaml")
    return parser.parse_args()


def _enter() -> None:
    """This program again, where no network is and what it starts ends with it."""
    if not PYTHON.exists():
        sys.exit("no Ray here: run `make ray` first")
    user = [] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"]
    namespace = ["unshare", *user, "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    inside = ["bash", "-c", 'ip link set lo up && exec "$@"', "bash", str(PYTHON), *sys.argv]
    os.execvpe(namespace[0], [*namespace, *inside], os.environ | {INSIDE: "1"})


def _adapt(workspaces: list[Path], objective: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    """Of each workspace: seconds of the whole command, while the others do the same, of each step, and the release."""
    with ThreadPoolExecutor(len(workspaces)) as pool:
        return list(pool.map(lambda workspace: _adapted(workspace, objective, environment), workspaces))


def _adapted(workspace: Path, objective: Path, environment: dict[str, str]) -> dict[str, Any]:
    from timed_adaptation import timed_adaptation

    found = timed_adaptation(workspace, objective, environment)
    return {"seconds": found.seconds, "release": found.release, "steps": found.steps}


if __name__ == "__main__":
    main()
