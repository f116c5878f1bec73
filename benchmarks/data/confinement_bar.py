"""What it costs that files are parsed by a confined process: the same reading with and without, in interleaved pairs.

A CSV file of a million short rows, from the file to rows in memory (``read_sources``); and a file of a hundred rows, as people try things
with. The process and its forkserver are warm, as they are in a gateway or worker; what starting the forkserver takes is told beside. The
quick run reads a twentieth of the rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from million_bar import ROWS, made_file
from objectives import objective_of

from tailorbird.data import read_sources
from tailorbird.data.readers import sources
from tailorbird.data.readers.formats import READERS

PAIRS = 7
SMALL_PAIRS = 40


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(made_file(ROWS // 20 if quick else ROWS), folder / "rows.csv")
        with (folder / "rows.csv").open("rb") as large, (folder / "small.csv").open("wb") as small:
            small.writelines(line for line, _ in zip(large, range(101), strict=False))
        first = timed(lambda: read(folder, "small.csv"))
        large_pairs, small_pairs = pairs(folder, "rows.csv", PAIRS), pairs(folder, "small.csv", SMALL_PAIRS)
    ratio = statistics.median(confined / here for confined, here in large_pairs)
    added = statistics.median(confined - here for confined, here in small_pairs)
    print(
        json.dumps(
            {
                "confined_reading_of_a_million_rows": {
                    "value": round(ratio, 4),
                    "bar": 1.05,
                    "unit": "time over time in the process itself, median of pairs",
                    "holds": None if quick else ratio <= 1.05,
                    "in": "full",
                    "seconds": [[round(one, 3) for one in pair] for pair in large_pairs],
                },
                "confined_reading_of_a_hundred_rows": {
                    "value": round(1000 * added, 2),
                    "bar": 30.0,
                    "unit": "ms added, median of pairs",
                    "holds": added <= 0.030,
                    "first_ms": round(1000 * first, 1),
                },
            }
        )
    )


def pairs(folder: Path, name: str, count: int) -> list[tuple[float, float]]:
    """(confined, in this process) in seconds; each goes first in every second pair."""
    found = []
    for number in range(count):
        if number % 2:
            here = timed(lambda: read_here(folder, name))
            found.append((timed(lambda: read(folder, name)), here))
        else:
            found.append((timed(lambda: read(folder, name)), timed(lambda: read_here(folder, name))))
    return found


def timed(do: Callable[[], Any]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


def read(folder: Path, name: str) -> None:
    read_sources(objective_of([{"path": name}]), folder)


def read_here(folder: Path, name: str) -> None:
    with unconfined():
        read(folder, name)


@contextmanager
def unconfined() -> Any:
    """Files are parsed in this process, as they were before."""
    confined = sources.read_records
    sources.read_records = lambda file, wanted: READERS[file.kind](file, wanted)
    try:
        yield
    finally:
        sources.read_records = confined


if __name__ == "__main__":
    main()
