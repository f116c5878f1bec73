"""Mutation of the code that must not be wrong: the share of changes that tests notice, by subject.

In: ``--places N`` (default 320, divided evenly among the subjects), ``--seed``, ``--only SUBJECT,...``. Out:
benchmarks/results/mutation.json, written after each place, so that a run goes on where it ended; as the last line of stdout the bars.
Places are drawn by the seed from the modules of ``subjects.py``. A change is noticed where one of the subject's tests fails, or does not
end in five times their time. Each of two processes changes a copy of its own of the sources; the tests run without those that need a model
or minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Any

from places import changed, places
from subjects import SUBJECTS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from machine import commit, machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "mutation.json"
SEED, PLACES, PATIENCE, BAR = 43, 320, 5.0, 0.85
FAST = "not slow and not jobs and not vllm and not llamacpp and not detectors and not ray and not models and not gpu"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=PLACES)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default=",".join(SUBJECTS))
    parser.add_argument("--quick", action="store_true", help="two places a subject: shows that it runs")
    options = parser.parse_args()
    names = options.only.split(",")
    each = 2 if options.quick else -(-options.places // len(SUBJECTS))
    drawn = [place for name in names for place in draw(name, each, options.seed)]
    result: dict[str, Any] = {"benchmark": "mutation", "machine": machine(), "commit": commit(), "seed": options.seed, "places": []}
    if RESULTS.exists() and not options.quick:
        kept = json.loads(RESULTS.read_text(encoding="utf-8"))
        result = kept if (kept["commit"], kept["seed"]) == (result["commit"], result["seed"]) else result
    done = {(place["module"], place["number"]) for place in result["places"]}
    run([place for place in drawn if (place["module"], place["number"]) not in done], result, keep=not options.quick)
    print(json.dumps({name: result[name] for name in ("benchmark", "machine", "commit")} | {"bars": bars(result["places"])}))


def draw(name: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Places of a subject: each place of its modules is as likely as another."""
    package, found = ROOT / "src" / "tailorbird", []
    for module in sorted({path for pattern in SUBJECTS[name].modules for path in package.glob(pattern)}):
        source = module.read_text(encoding="utf-8")
        for place in places(source):
            where = {"subject": name, "module": str(module.relative_to(package)), "number": place.number}
            found.append(where | {"line": place.line, "change": place.change})
    return random.Random(f"{seed} {name}").sample(found, min(count, len(found)))


def run(wanted: list[dict[str, Any]], result: dict[str, Any], *, keep: bool) -> None:
    """Changes each place in one of two copies; what is known is written at once."""
    copies: Queue[Path] = Queue()
    lock, usual = Lock(), dict[str, float]()
    with tempfile.TemporaryDirectory(prefix="mutation-") as name:
        for number in range(len(os.sched_getaffinity(0))):
            copies.put(_copied(Path(name) / str(number)))
        for subject in sorted({place["subject"] for place in wanted}):
            usual[subject] = _usual(subject, copies)

        def one(place: dict[str, Any]) -> None:
            folder = copies.get()
            try:
                noticed = _noticed(folder, place, usual[place["subject"]])
            finally:
                copies.put(folder)
            with lock:
                result["places"].append(place | {"noticed": noticed})
                said = f"{len(result['places']):4} {place['module']}:{place['line']} {place['change']}: {noticed or 'SURVIVED'}"
                print(said, file=sys.stderr, flush=True)
                if keep:
                    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

        with ThreadPoolExecutor(copies.qsize()) as pool:
            list(pool.map(one, wanted))


def _copied(folder: Path) -> Path:
    for part in ("src", "tests", "examples", "scripts", "docs", "deploy", "benchmarks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md", "Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "requirements.lock"):
        shutil.copy(ROOT / part, folder / part)
    (folder / ".cache").symlink_to(ROOT / ".cache")
    return folder


def _usual(subject: str, copies: Queue[Path]) -> float:
    """Seconds that a subject's tests take; they must pass."""
    folder = copies.get()
    started = time.monotonic()
    ended = _tests(folder, subject, 3600.0)
    copies.put(folder)
    if ended != 0:
        raise SystemExit(f"the tests of {subject} fail without a change (exit status {ended})")
    seconds = time.monotonic() - started
    print(f"the tests of {subject} take {seconds:.0f} s", file=sys.stderr, flush=True)
    return seconds


def _noticed(folder: Path, place: dict[str, Any], usual: float) -> str:
    """By what: a failed test, or the end of patience; empty where it was not noticed."""
    module = folder / "src" / "tailorbird" / place["module"]
    source = module.read_text(encoding="utf-8")
    module.write_text(changed(source, place["number"]), encoding="utf-8")
    try:
        ended = _tests(folder, place["subject"], PATIENCE * usual + 60)
    finally:
        module.write_text(source, encoding="utf-8")
    return {0: "", None: "time"}.get(ended, "test")


def _tests(folder: Path, subject: str, patience: float) -> int | None:
    """The exit status of a subject's tests, which end at the first failure; none where they did not end in time."""
    paths: list[str] = []
    for pattern in SUBJECTS[subject].tests:
        found = [str(path.relative_to(folder)) for path in sorted((folder / "tests").glob(pattern))]
        paths += [path for path in found if path not in paths]
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    environment["TAILORBIRD_TEST_DATA"] = os.environ.get("TAILORBIRD_TEST_DATA", str(ROOT.parent / "shared" / "data"))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", FAST, *paths]
    with (folder / "tests.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            return process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            return None


def bars(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The share noticed, of all and of each subject."""
    shares = {}
    for name in ("all", *SUBJECTS):
        of = [place for place in found if name in ("all", place["subject"])]
        if of:
            share = round(sum(bool(place["noticed"]) for place in of) / len(of), 3)
            shares[name] = {"value": share, "unit": "share", "places": len(of)}
    if "all" in shares:
        shares["all"] |= {"bar": BAR, "holds": shares["all"]["value"] >= BAR}
    return shares


if __name__ == "__main__":
    main()
