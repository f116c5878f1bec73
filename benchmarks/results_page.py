"""Writes docs/benchmarks.md from benchmarks/results: one row a bar, first those that are missed.

In: the result files. Out: the page; with ``--check`` nothing is written, and the exit status says whether it is up to date.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "benchmarks.md"
#: What a row takes from the part of the file that it stands in.
SHARED = ("commit", "machine", "date", "at", "in", "mode", "peer", "against")
HEAD = """# Benchmarks

Written by `benchmarks/results_page.py` from `benchmarks/results`; do not edit. `make bench
NAME=ledger` (or another folder of `benchmarks/`) runs a benchmark; `QUICK=1` takes less than ten
minutes. Where a peer is named, both sides did the same work in the same run, and the value is a
ratio. `benchmarks/pairs` compares this checkout with an earlier commit: above 1 is faster now. A
quick run is shorter than a full one and proves less. What is not listed has not been measured.
[models.md](reference/models.md) lists architectures, [design notes](design/README.md) say what was found.
"""


def bars(part: Any, shared: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and row of each bar in a part of a result file, with what stands around it."""
    if not isinstance(part, dict):
        return
    shared = shared | {
        key: part[key] for key in SHARED if isinstance(part.get(key), (str, dict)) and (key == "machine" or isinstance(part[key], str))
    }
    for key, value in part.items():
        if key == "bars" and isinstance(value, dict):
            yield from ((name, shared | row) for name, row in value.items() if isinstance(row, dict) and "value" in row)
        else:
            yield from bars(value, shared)


def number(value: Any) -> str:
    """A number as a reader wants it; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "–" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def is_upper_bound(row: dict[str, Any]) -> bool:
    """Whether the bar bounds from above: as the row says, else as value and verdict show."""
    said = row.get("less_is_better")
    judged = row.get("low", row["value"])
    return bool(said) if said is not None else (judged < row["bar"]) == bool(row.get("holds", True)) and judged != row["bar"]


def cells(name: str, row: dict[str, Any]) -> list[str]:
    """The cells of one row."""
    interval = row.get("interval") or ([row["low"], row["high"]] if "low" in row and "high" in row else None)
    value = number(row["value"]) + (f" [{number(interval[0])}, {number(interval[1])}]" if interval else "")
    bound = f"{'≤' if is_upper_bound(row) else '≥'} {number(row['bar'])}" if row.get("bar") is not None else "–"
    machine = row.get("machine") or {}
    where = (
        f"{machine.get('processor') or machine.get('cpu') or 'unknown'}, {machine.get('cpus') or machine.get('cores')} cores"
        if machine
        else "–"
    )
    when = str(row.get("date") or row.get("at") or "–")[:10]
    mode = str(row.get("in") or row.get("mode") or "full")
    against = row.get("peer") if isinstance(row.get("peer"), str) else row.get("against")
    title = name.replace("_", " ") + (f" (against {against})" if against else "")
    return [title, value, str(row.get("unit", "")), bound, mode, str(row.get("commit", "–"))[:8], when, where]


def table(rows: list[list[str]]) -> str:
    """A Markdown table."""
    head = ["what", "value", "unit", "bar", "run", "commit", "date", "machine"]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in (head, ["---"] * len(head), *rows))


def page() -> str:
    """The page."""
    found = {
        path.relative_to(RESULTS).with_suffix("").as_posix(): list(bars(json.loads(path.read_text(encoding="utf-8")), {}))
        for path in sorted(RESULTS.rglob("*.json"))
    }
    missed = [
        [f"{area}: {row[0]}", *row[1:]]
        for area, rows in found.items()
        for row in (cells(name, one) for name, one in rows if one.get("holds") is False)
    ]
    held = sum(len(rows) for rows in found.values()) - len(missed)
    parts = [HEAD, f"## What falls short\n\n{len(missed)} bars are missed, {held} hold.\n\n{table(missed)}\n"]
    parts += [f"## {area}\n\n{table([cells(name, row) for name, row in rows])}\n" for area, rows in found.items() if rows]
    return "\n".join(parts)


def main() -> int:
    """Writes the page, or compares it."""
    if "--check" in sys.argv:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
