"""The suites that `make test` leaves to the night: which there are, what they cover, and when each was last run.

    nightly.py status        a line a suite, the one whose result is oldest first
    nightly.py run [NAME]    runs one suite (else the one whose result is oldest) and writes what came of it to tests/nightly.json

In: tests/nightly.json, which is committed. Out: a table; exit status of the suite.
"""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tests" / "nightly.json"
#: A make target each, and what it covers.
SUITES = {
    "jobs": "the README's commands, every template up to a release, stories too long for make test, a kill at each moment",
    "models": "tiny random models of every architecture: trained, scored, generated as transformers and PEFT do; golden values in bf16",
    "fuzz": "every reader of foreign bytes, with a thousand broken inputs each",
    "vllm": "the driver of vLLM on a real vLLM",
    "llamacpp": "exported GGUF files on a real llama.cpp",
    "ray": "steps of runs on a real Ray of two raylets",
    "detectors": "the detector of names on a real Presidio",
    "deploy-check": "the chart, the units and the image by Helm, schemas of Kubernetes, hadolint and systemd-analyze",
    "gpu": "training and serving on a CUDA device (only on a machine that has one)",
}


def results() -> dict[str, dict[str, str | int]]:
    """The last result of each suite that was run."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def by_age() -> list[str]:
    """The suites, one that was never run first, then by the moment of their last result."""
    known = results()
    return sorted(SUITES, key=lambda name: str(known.get(name, {}).get("at", "")))


def status() -> int:
    """Prints them."""
    known = results()
    for name in by_age():
        last = known.get(name)
        told = f"{last['at']}  {last['commit']}  {'passed' if last['passed'] else 'FAILED'} in {last['minutes']} min" if last else "never"
        print(f"{name:<13} {told:<52} {SUITES[name]}")
    return 0


def run(name: str) -> int:
    """Runs one and keeps its result."""
    commit = subprocess.run(["git", "rev-parse", "--short=8", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=ROOT, check=False).returncode
    started = time.monotonic()
    status = subprocess.run(["make", name, *(["EXAMPLES=1000"] if name == "fuzz" else [])], cwd=ROOT, check=False).returncode
    told = {
        "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        "commit": commit + ("-dirty" if changed else ""),
        "passed": int(status == 0),
        "minutes": round((time.monotonic() - started) / 60),
    }
    RESULTS.write_text(json.dumps(dict(sorted((results() | {name: told}).items())), indent=2) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["status"]:
            sys.exit(status())
        case ["run", *names] if len(names) < 2 and SUITES.keys() >= set(names):
            sys.exit(run(names[0] if names else next(name for name in by_age() if name != "gpu")))
        case _:
            sys.exit(f"usage: nightly.py status | run [{'|'.join(SUITES)}]")
