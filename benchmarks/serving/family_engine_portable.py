"""Our native pass in its portable form, held to AVX2, beside what such a machine computed with before: torch held to AVX2.

Each form is a process of its own, and they take turns: steps of 1, 4, 16 and 64 rows that add one token to a context of 40, and the first
256 tokens of a text. The forms of AVX-512 are there to compare with.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from engines import base_model
from run import ROOT, Bar, Measured, say

BARS: dict[str, Bar] = {
    "portable_one_row": (1.0, 2.0, "ratio", False),
    "portable_sixteen_rows": (1.0, 2.0, "ratio", False),
    "portable_prefill": (0.9, 1.0, "ratio", False),
}
#: What holds torch, oneDNN and MKL to AVX2; and how threads wait in the engine's own process (docs/design/engine.md), or as OpenMP has it.
_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
BRIEF = {"GOMP_SPINCOUNT": "1000"}
#: Precision, form and environment of a process.
Form = tuple[str, str, Mapping[str, str]]
FORMS: dict[str, Form] = {
    "bf16 portable, AVX2": ("bf16", "avx2", BRIEF),
    "int8 portable, AVX2": ("int8", "avx2", BRIEF),
    "fp32 torch, AVX2": ("fp32", "plain", _AVX2 | BRIEF),
    "fp32 torch, AVX2, spinning": ("fp32", "plain", _AVX2),
    "bf16 torch, AVX2": ("bf16", "plain", _AVX2 | BRIEF),
    "bf16 native, AVX-512": ("bf16", "avx512", BRIEF),
    "int8 native, AVX-512": ("int8", "avx512", BRIEF),
}
STEPS = {"1 row": (1, 1), "4 rows": (4, 1), "16 rows": (16, 1), "64 rows": (64, 1), "256 tokens": (1, 256)}
#: Torch multiplies many rows in bf16 so slowly there that they are left out of its turns.
_SLOW, _MOST_ROWS = "bf16 torch, AVX2", 16
_OURS, _THEIRS = "bf16 portable, AVX2", ("fp32 torch, AVX2", "fp32 torch, AVX2, spinning")


def measure(quick: bool) -> Measured:
    theirs = _THEIRS[:1] if quick else _THEIRS
    names = (_OURS, *theirs) if quick else tuple(FORMS)
    with ExitStack() as opened:
        processes = {name: opened.enter_context(started(FORMS[name], name)) for name in names}
        took = {step: in_turns(processes, step, 1 if quick else 5) for step in STEPS}
    found = {step: {name: round(median(each), 2) for name, each in forms.items()} for step, forms in took.items()}
    # Round by round, against torch in whichever way of waiting was the faster one there.
    ratios = {
        step: round(median(min(torch) / ours for ours, *torch in zip(*(forms[name] for name in (_OURS, *theirs)), strict=True)), 3)
        for step, forms in took.items()
    }
    values = {"portable_one_row": ratios["1 row"], "portable_sixteen_rows": ratios["16 rows"], "portable_prefill": ratios["256 tokens"]}
    return Measured(values, {"ms of a step, median of rounds": found, "torch in fp32 / portable": ratios})


@contextmanager
def started(form: Form, name: str) -> Iterator[subprocess.Popen[str]]:
    """A process that computes steps in one form."""
    precision, kernels, environment = form
    command = [sys.executable, str(Path(__file__).with_name("form_steps.py")), str(base_model()), precision, kernels]
    # Ours runs where nothing is held to AVX2; what the shell says of it holds for nobody.
    kept = {key: value for key, value in os.environ.items() if key not in (*_AVX2, *BRIEF)}
    settings = kept | {"PYTHONPATH": str(ROOT / "src")} | environment
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=settings) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError(f"{name} did not start")
            yield process
        finally:
            process.kill()


def in_turns(processes: Mapping[str, subprocess.Popen[str]], step: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each process and round, after one that is not counted."""
    few = max(STEPS[step]) <= _MOST_ROWS
    turns = {name: process for name, process in processes.items() if few or name != _SLOW}
    took: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds + 1):
        for name, process in turns.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(" ".join(map(str, STEPS[step])) + "\n")
            process.stdin.flush()
            took[name].append(float(process.stdout.readline()))
    counted = {name: each[1:] for name, each in took.items()}
    say(f"{step}: " + ", ".join(f"{name} {median(each):.2f} ms" for name, each in counted.items()))
    return counted
