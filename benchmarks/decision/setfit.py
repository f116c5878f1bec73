"""SetFit against the encoder of the ladder: the same encoder, rows and seeds, in pairs on rows held out of the train file of Banking77.

In: ``SETFIT_PYTHON`` is an interpreter with ``setfit`` 1.2 (no dependency of this project), ``DRAWS=0,1,2`` names the draws of rows
(quick: one draw of 20 intents), ``ITERATIONS`` the pairs a text that SetFit draws (20, as in its paper). Out: per draw both accuracies, the
paired difference with a 95 % interval, and the seconds of each, on as many threads as there are cores; over all draws the lower end, and
our seconds as a share of SetFit's. The official test is not read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from encoder import ENCODER, QUICK_INTENTS, Drawn, drawn, paired, tuned_answers

from tailorbird.stats.paired_tests import paired_interval

#: Messages of an intent that are learned.
LEARNED = 10
#: Pairs a text, as in the paper (Tunstall et al. 2022, arXiv 2209.11055).
ITERATIONS = 20


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The lower end of ours minus SetFit's accuracy over all draws, and the largest share of its time."""
    python = os.environ.get("SETFIT_PYTHON")
    if not python:
        raise SystemExit("name an interpreter that has setfit 1.2: SETFIT_PYTHON=…/bin/python")
    draws = os.environ.get("DRAWS", "0" if quick else "0,1,2").split(",")
    told = [_compared(python, drawn(int(draw), QUICK_INTENTS if quick else 77, LEARNED)) for draw in draws]
    differences = [each for one in told for each in one.pop("differences")]
    low, high = paired_interval(differences, [item for one in told for item in one.pop("items")], 0.95)
    values = {"encoder_minus_setfit_low": low, "encoder_of_setfit_seconds": max(one["share_of_seconds"] for one in told)}
    whole = {"difference": round(sum(differences) / len(differences), 4), "low": round(low, 4), "high": round(high, 4)}
    return values, whole | {"draws": told, "iterations": _iterations(), "read": _versions(python)}


def _compared(python: str, rows: Drawn) -> dict[str, Any]:
    theirs, their_seconds = _setfit(python, rows)
    ours, took = tuned_answers(rows)
    share = round(took["seconds"] / their_seconds, 3)
    seconds = {"setfit_seconds": round(their_seconds, 1), "share_of_seconds": share, "load": os.getloadavg()[0]}
    return paired(rows, "setfit", theirs, ours) | took | seconds


def _setfit(python: str, rows: Drawn) -> tuple[list[str], float]:
    with tempfile.TemporaryDirectory() as folder:
        asked = {
            "encoder": str(ENCODER),
            "threads": os.cpu_count() or 1,
            "folder": folder,
            "seed": rows.draw,
            "iterations": _iterations(),
            "texts": [row.text for row in rows.train],
            "labels": [rows.labels.index(str(row.target)) for row in rows.train],
            "asked": [row.text for row in rows.compared],
        }
        # Without -P this file would be what the other one imports as ``setfit``.
        worker = Path(__file__).with_name("setfit_worker.py")
        done = subprocess.run([python, "-P", str(worker)], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    return [rows.labels[place] for place in told["answers"]], float(told["seconds"])


def _iterations() -> int:
    return int(os.environ.get("ITERATIONS", ITERATIONS))


def _versions(python: str) -> str:
    code = "import importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in ('setfit', 'sentence-transformers', 'torch')))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=os.environ, cwd=sys.prefix).stdout.strip()
