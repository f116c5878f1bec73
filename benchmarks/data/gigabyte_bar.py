"""A gigabyte of JSON Lines: how much memory looking at it takes, and how much curating a part of it.

The file has the shape of a help desk's export: an id, a message (half of them longer than 90 words, some of a thousand), a team, a
customer, an hour, a channel. Its words are drawn, each among those that followed the one before it in Banking77, so nearly every text is
new; 3 in 100 are copies. It is made under ``.cache`` and deleted at the end. What is measured runs in processes of its own, each measured
as a whole (``getrusage``): ``data.inspect``, as ``tailorbird data inspect`` calls it, under a bar of memory; and ``build_snapshot`` without
one, over the first ``PART`` bytes: long texts take long to compare (docs/benchmarks.md says how long), and ``--curate`` asks for more of
them. A process that would take more than ``MOST`` is told so by the system, and tells it. The quick run takes a twentieth and proves
nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from objectives import Folder, objective_of
from rows import ROOT, banking77

from tailorbird import data

BYTES, PART, SEED = 10**9, 2 * 10**7, 5
#: Rows that are drawn at a time, words of the longest message, GiB that a process may ask for.
ROWS, LONGEST, MOST = 5_000, 1_000, 12


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--size", type=int, metavar="BYTES", help="other than a gigabyte: to see how it grows")
    parser.add_argument("--curate", type=int, metavar="BYTES", default=PART, help="how much of it is curated")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "MODE"))
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(worked(Path(given.worker[0]), given.worker[1])))
        return
    size = given.size or (BYTES // 20 if given.quick else BYTES)
    (ROOT / ".cache").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache", prefix="gigabyte-") as name:
        rows = write(Path(name) / "rows.jsonl", size)
        print(f"{rows:,} rows in {size:,} bytes", file=sys.stderr, flush=True)
        looked = run(name, "inspect") | {"bytes": size}
        part = cut(Path(name) / "rows.jsonl", given.curate)
        curated = run(name, "curate") | {"bytes": part}
        print(json.dumps(bars(looked, curated, quick=size != BYTES)))


def cut(path: Path, size: int) -> int:
    """Leaves the rows that lie whole within the first ``size`` bytes; how many bytes those are."""
    with path.open("r+b") as file:
        start = file.seek(max(0, min(size, path.stat().st_size) - 100_000))
        end = start + file.read(min(size, path.stat().st_size) - start).rindex(b"\n") + 1
        file.truncate(end)
    return end


def write(path: Path, size: int) -> int:
    """Rows until the file has ``size`` bytes, to within a row; how many."""
    written = count = 0
    with path.open("wb") as file:
        for row in made_rows(SEED):
            line = json.dumps(row).encode() + b"\n"
            if written + len(line) > size:
                break
            file.write(line)
            written, count = written + len(line), count + 1
    return count


def made_rows(seed: int) -> Iterator[dict[str, str]]:
    """Rows without end."""
    drawn, known = np.random.default_rng(seed), banking77()
    words, following, first, many = _successors([text for text, _ in known])
    teams = sorted({label for _, label in known})
    earlier: list[str] = []
    number = 0
    while True:
        length_R = np.clip(np.exp(drawn.normal(np.log(90), 0.8, ROWS)), 8, LONGEST).astype(int)
        word_RW = np.empty((ROWS, length_R.max()), dtype=np.int64)
        word_RW[:, 0] = drawn.integers(len(words), size=ROWS)
        for place in range(1, word_RW.shape[1]):
            before_R = word_RW[:, place - 1]
            word_RW[:, place] = following[first[before_R] + (drawn.random(ROWS) * many[before_R]).astype(np.int64)]
        for row_W, length in zip(word_RW, length_R, strict=True):
            number += 1
            text = earlier[number % len(earlier)] if earlier and drawn.random() < 0.03 else " ".join(words[word] for word in row_W[:length])
            yield {
                "id": f"T{number:08d}",
                "message": text,
                "team": teams[number * 7919 % len(teams)],
                "customer": f"customer {drawn.integers(300_000)}",
                "received": f"2026-{number % 12 + 1:02d}-{number % 28 + 1:02d}T{number % 24:02d}:00:00Z",
                "channel": ("mail", "chat", "form")[number % 3],
            }
            if number % 100 == 0 and len(earlier) < 10_000:
                earlier.append(text)


def _successors(texts: list[str]) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Words; and for each of them, among the numbers of words in the second list, where those begin that followed it, and how many."""
    known: dict[str, list[int]] = {}
    words: list[str] = []
    for text in texts:
        for word in text.split():
            if word not in known:
                known[word] = []
                words.append(word)
    numbers = {word: number for number, word in enumerate(words)}
    for text in texts:
        for one, two in pairwise(text.split()):
            known[one].append(numbers[two])
    after = [known[word] or [0] for word in words]
    many = np.array([len(found) for found in after])
    return words, np.concatenate([np.array(found) for found in after]), np.cumsum(many) - many, many


def run(folder: str, mode: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", folder, mode]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {"ended": done.returncode}
    print(mode, found, file=sys.stderr, flush=True)
    return found


def worked(folder: Path, mode: str) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_DATA, (MOST << 30, MOST << 30))
    start, cpu = time.perf_counter(), time.process_time()

    def told(text: str) -> None:
        print(f"[{time.perf_counter() - start:6.1f} s, {_gib():.2f} GiB] {text}", file=sys.stderr, flush=True)

    try:
        found = _inspected(folder, told) if mode == "inspect" else _curated(folder, told)
    except MemoryError:
        found = {"broke": f"it needs more than {MOST} GiB"}
    return {"seconds": round(time.perf_counter() - start, 1), "cpu": round(time.process_time() - cpu, 1), "gib": round(_gib(), 2)} | found


def _gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def _inspected(folder: Path, told: Any) -> dict[str, Any]:
    found = data.inspect_file("rows.jsonl", folder, told)
    return {"rows": found.rows, "guessed": {guess.role: guess.column for guess in found.guesses}}


def _curated(folder: Path, told: Any) -> dict[str, Any]:
    (folder / "artifacts").mkdir()
    objective = objective_of([{"path": "rows.jsonl", "text": "message", "label": "team", "subject": "customer"}])
    built = data.build_snapshot(data.SnapshotRequest(objective, folder, Folder(folder / "artifacts"), {}, told))
    return {"rows": built.report.flow[0].before, "kept": built.manifest.size, "groups": built.manifest.near_duplicate_groups}


def bars(looked: dict[str, Any], curated: dict[str, Any], *, quick: bool) -> dict[str, object]:
    """A run over fewer bytes proves nothing of the bar."""
    common = {"in": "full"} if quick else {}
    memory = looked.get("gib", float("inf")) if "broke" not in looked else float("inf")
    looking = {"value": looked.get("gib"), "bar": 1.0, "unit": "GiB", "holds": None if quick else memory <= 1.0}
    curating = {"value": curated.get("gib"), "bar": None, "unit": "GiB", "holds": None}
    rest = [{key: told for key, told in found.items() if key != "gib"} for found in (looked, curated)]
    return {"gigabyte_inspected_memory": looking | rest[0] | common, "part_curated_memory": curating | rest[1] | common}


if __name__ == "__main__":
    main()
