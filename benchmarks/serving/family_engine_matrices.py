"""Our native pass in bf16 by matrix registers (AMX), beside itself without them, in int8, and beside torch, which has them through oneDNN.

Each is a process of its own, and they take turns, as in ``family_engine_portable.py``. On a processor without matrix registers nothing is
measured.
"""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from family_engine_portable import BRIEF, STEPS, Form, in_turns, started
from run import Bar, Measured

from tailorbird.inference.native import library

BARS: dict[str, Bar] = {
    "matrices_one_row": (1.0, 1.0, "ratio", False),
    "matrices_sixteen_rows": (1.5, 2.0, "ratio", False),
    "matrices_prompt": (2.0, 4.0, "ratio", False),
}
FORMS: dict[str, Form] = {
    "bf16 native, AMX": ("bf16", "amx", BRIEF),
    "bf16 native, AVX-512": ("bf16", "avx512", BRIEF),
    "int8 native, AVX-512": ("int8", "avx512", BRIEF),
    "bf16 torch": ("bf16", "plain", BRIEF),
}
_OURS, _BEFORE, _TORCH = "bf16 native, AMX", "bf16 native, AVX-512", "bf16 torch"


def measure(quick: bool) -> Measured:
    if library.form_here() is not library.AMX:
        return Measured({}, {"not measured": "the processor has no matrix registers, or the system keeps them back"})
    with ExitStack() as opened:
        processes = {name: opened.enter_context(started(form, name)) for name, form in FORMS.items()}
        took = {step: in_turns(processes, step, 1 if quick else 5) for step in STEPS}
    found = {step: {name: round(median(each), 2) for name, each in forms.items()} for step, forms in took.items()}
    before, torch = ({step: _ratio(forms[other], forms[_OURS]) for step, forms in took.items()} for other in (_BEFORE, _TORCH))
    values = {"matrices_one_row": before["1 row"], "matrices_sixteen_rows": before["16 rows"], "matrices_prompt": before["256 tokens"]}
    return Measured(values, {"ms of a step, median of rounds": found, "without matrix registers / with": before, "torch / ours": torch})


def _ratio(theirs: list[float], ours: list[float]) -> float:
    return round(median(other / own for other, own in zip(theirs, ours, strict=True)), 3)
