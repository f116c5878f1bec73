"""Mutation of the code that must not be wrong: the share of changes that tests notice, by subject.

In: ``--places N`` (default 320, divided evenly among the subjects), ``--seed``, ``--only SUBJECT,...``. Out:
benchmarks/results/mutation.json, written after each place, so that a run goes on where it ended; as the last line of stdout the bars.
Places are drawn by the seed from the modules of ``subjects.py``. A change is noticed where one of the subject's tests fails, or does not
end in time. The tests of a subject run once without a change, traced (``traced.py``): a change meets the tests that execute its line,
fastest first, then the other tests of their files (which share fixtures with them); all of the subject's where none executes the line in
the process of the tests. Two processes change a copy each of the sources; tests that need a model or minutes do not run.
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
from typing import Any, NamedTuple

from places import changed, places
from subjects import SUBJECTS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from machine import commit, machine  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "mutation.json"
TRACER = ROOT / ".cache" / "mutation" / "coverage"
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
    lock = Lock()
    if not TRACER.is_dir():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(TRACER), "coverage>=7.6,<8"], check=True)
    with tempfile.TemporaryDirectory(prefix="mutation-") as name, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for number in range(len(os.sched_getaffinity(0))):
            copies.put(_copied(Path(name) / str(number)))

        def with_copy(work: Any, *values: Any) -> Any:
            folder = copies.get()
            try:
                return work(folder, *values)
            finally:
                copies.put(folder)

        def one(place: dict[str, Any], usual: Usual) -> None:
            noticed = with_copy(_noticed, place, usual)
            with lock:
                result["places"].append(place | {"noticed": noticed})
                line = f"{len(result['places']):4} {place['module']}:{place['line']} {place['change']}: {noticed or 'SURVIVED'}"
                print(line, file=sys.stderr, flush=True)
                if keep:
                    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

        subjects = sorted({place["subject"] for place in wanted})
        usual = dict(zip(subjects, pool.map(lambda subject: with_copy(_usual, subject), subjects), strict=True))
        list(pool.map(lambda place: one(place, usual[place["subject"]]), wanted))


def _copied(folder: Path) -> Path:
    for part in ("src", "tests", "examples", "scripts", "docs", "deploy", "benchmarks"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md", "Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "requirements.lock"):
        shutil.copy(ROOT / part, folder / part)
    (folder / ".cache").symlink_to(ROOT / ".cache")
    return folder


class Usual(NamedTuple):
    """A subject's tests without a change: their seconds, and the tests that execute each line of a module, fastest first."""

    paths: list[str]
    seconds: float
    tests: dict[str, dict[str, list[str]]]


def _usual(folder: Path, subject: str) -> Usual:
    """Runs a subject's tests traced, once a commit; they must pass."""
    paths: list[str] = []
    for pattern in SUBJECTS[subject].tests:
        matching = [str(path.relative_to(folder)) for path in sorted((folder / "tests").glob(pattern))]
        paths += [path for path in matching if path not in paths]
    kept = TRACER.parent / f"{commit()}-{subject}.json"
    if kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
        return Usual(paths, found["seconds"], found["tests"])
    started = time.monotonic()
    traced = folder / "traced.json"
    status = _tests(folder, paths, 3600.0, {"TRACED_FILE": str(traced), "TRACED_SOURCE": str(folder / "src" / "tailorbird")})
    if status != 0:
        shutil.copy(folder / "tests.log", RESULTS.with_name("mutation.log"))
        raise SystemExit(f"the tests of {subject} fail without a change (exit status {status}): see {RESULTS.with_name('mutation.log')}")
    seconds = time.monotonic() - started
    print(f"the tests of {subject} take {seconds:.0f} s, traced", file=sys.stderr, flush=True)
    tests = json.loads(traced.read_text(encoding="utf-8"))
    kept.write_text(json.dumps({"seconds": seconds, "tests": tests}), encoding="utf-8")
    return Usual(paths, seconds, tests)


def _noticed(folder: Path, place: dict[str, Any], usual: Usual) -> str:
    """By what: a failed test, or the end of patience; empty where it was not noticed."""
    module = folder / "src" / "tailorbird" / place["module"]
    source = module.read_text(encoding="utf-8")
    executing = usual.tests.get(place["module"], {}).get(str(place["line"]), [])
    files = sorted({test.partition("::")[0] for test in executing})
    rounds = [executing, [*files, *(f"--deselect={test}" for test in executing)]] if executing else [usual.paths]
    module.write_text(changed(source, place["number"]), encoding="utf-8")
    try:
        for chosen in rounds:
            status = _tests(folder, chosen, PATIENCE * usual.seconds + 60)
            if status is None:
                return "time"
            if status not in (0, 5):  # 5: no test is left
                return "test"
    finally:
        module.write_text(source, encoding="utf-8")
    return ""


def _tests(folder: Path, chosen: list[str], patience: float, traced: dict[str, str] | None = None) -> int | None:
    """The exit status of tests, which end at the first failure; none where they did not end in time."""
    path = [str(folder / "src"), *([str(TRACER), str(Path(__file__).parent)] if traced else [])]
    environment = (
        os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"} | (traced or {})
    )
    environment["TAILORBIRD_TEST_DATA"] = os.environ.get("TAILORBIRD_TEST_DATA", str(ROOT.parent / "shared" / "data"))
    arguments = folder / "arguments.txt"
    arguments.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *(["-p", "traced"] if traced else []), "-m", FAST]
    with (folder / "tests.log").open("w") as log:
        process = subprocess.Popen([*command, f"@{arguments}"], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
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
