"""What both sides are given: the same rows of token ids, the same settings, the same protocol.

In: Banking77. Out: rows and settings as JSON, and a gate that lets one side take one step at a time. Needs nothing but the standard
library: it is imported in both environments.

A worker says one JSON object a line on stdout. Before each step it says ``ready`` and waits for a line on stdin, so that the sides
alternate step by step on a machine whose load changes, and an idle side holds no core.
"""

from __future__ import annotations

import csv
import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

INSTRUCTION = "Classify the customer message into one intent."
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
GIB = 2**30


@dataclass(frozen=True)
class Spec:
    """One side of a comparison. ``variant`` is the peer's setting, or the trick that our side goes without (empty: none)."""

    side: str
    method: str
    variant: str
    long: bool
    steps: int
    base: str
    rows: str
    out: str
    threads: int
    seed: int = 1
    batch_size: int = 16
    rank: int = 16
    alpha: int = 32
    held_out: int = 16

    @property
    def learning_rate(self) -> float:
        """LoRA ten times full (rule R5 of the research)."""
        return 1e-4 if self.method == "full" else 1e-3

    @property
    def name(self) -> str:
        """How progress and results call it."""
        return " ".join(part for part in (self.side, self.method, self.variant, "long" if self.long else "short") if part)

    def dump(self) -> str:
        """As a command line argument."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Spec:
        """What ``dump`` wrote."""
        return cls(**json.loads(text))

    def but(self, **changes: Any) -> Spec:
        """The same with some changes."""
        return replace(self, **changes)


def read_messages(seed: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Train messages of Banking77 with their labels, shuffled, and all labels in alphabetical order."""
    folder = Path(os.environ.get("TAILORBIRD_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    with (folder / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        pairs = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    labels = sorted({label for _, label in pairs})
    random.Random(seed).shuffle(pairs)
    return pairs, labels


class Gate:
    """Says what happens and waits to be let on."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        # What libraries print must not be taken for a message.
        os.dup2(2, 1)
        self.started = self.cpu_started = 0.0

    def say(self, event: str, **what: Any) -> None:
        """One line."""
        self._out.write(json.dumps({"event": event, **what}) + "\n")

    def wait(self) -> None:
        """Until a line comes on stdin; a closed stdin ends the process."""
        self.say("ready")
        if not sys.stdin.readline():
            os._exit(0)
        self.started, self.cpu_started = time.perf_counter(), time.process_time()


class Memory:
    """The peak of the resident set above what it was when the model had been loaded. Linux only."""

    def __init__(self) -> None:
        self._start = 0.0

    def loaded(self) -> None:
        """Forgets the peak of loading."""
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._start = _status("VmRSS")

    def above(self) -> float:
        """GiB."""
        return _status("VmHWM") - self._start


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / GIB
    raise LookupError(field)
