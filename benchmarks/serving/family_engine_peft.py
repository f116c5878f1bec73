"""Answers of 32 tokens, 16 at a time, eight adapters: ours, through the gateway, against PEFT's mixed batches in process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from engines import WORK, base_model, rounds
from own import asks_own, own
from run import Bar, Measured, say

BARS: dict[str, Bar] = {"eight_adapters_vs_peft": (2.0, 4.0, "ratio", False)}


def measure(quick: bool) -> Measured:
    times = 1 if quick else 3
    with own(8) as server:
        ours = rounds("ours eight adapters", asks_own(server), range(8), times=3)
    theirs = _peft(times)
    ratio = round(median(ours) / median(theirs), 3)
    return Measured({"eight_adapters_vs_peft": ratio}, {"output tokens/s": {"ours eight": ours, "peft eight": theirs}})


def _peft(times: int) -> list[float]:
    command = [sys.executable, str(Path(__file__).with_name("peft_batches.py")), str(base_model()), str(WORK / "adapters"), "8", str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
    found = [round(value, 1) for value in json.loads(done.stdout.splitlines()[-1])]
    say(f"PEFT eight adapters: {found}")
    return found
