"""Steps of one form of the forward pass, in a process of its own, since torch reads what it may use when it is loaded.

In: the folder of a model, precision and form (``plain``: torch; ``amx``, ``avx512``, ``avx2``: the native pass); on stdin lines of two
numbers, the rows of a step and the tokens of each. Out: for each line the milliseconds of a step, the fastest of several within a second
or so.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, cast

import torch

from tailorbird.inference.forward.batch import Batch, Part, build_batch
from tailorbird.inference.forward.model_folder import read_weights
from tailorbird.inference.forward.torch_forward import TorchForward
from tailorbird.inference.forward.weights import Precision, place
from tailorbird.inference.native import library
from tailorbird.inference.native.forward import NativeForward
from tailorbird.inference.scheduling import BLOCK

#: What the compiler may use: no more than a processor with AVX2 has.
AVX2 = library.Form(("-march=x86-64-v3", "-ffp-contract=fast"))
FORMS = {"avx2": AVX2, "avx512": library.AVX512, "amx": library.AMX}
CONTEXT, SECONDS = 40, 0.6


def read(folder: Path, precision: str, form: str) -> Any:
    """The pass."""
    model = read_weights(folder, place(cast(Precision, precision)))
    eight = precision == "int8"
    if form == "plain":
        return TorchForward(model)
    return NativeForward(model, torch.get_num_threads(), eight_bits=eight, form=FORMS[form])


def batch_of(rows: int, tokens: int) -> Batch:
    """One token behind a context of 40 in each row, or the first ``tokens`` of a text."""
    start = CONTEXT if tokens == 1 else 0
    each = -(-(start + tokens) // BLOCK)
    places = [list(range(at * each, (at + 1) * each)) for at in range(rows)]
    return build_batch(
        Part(None, [100 + (at + i) % 1000 for i in range(tokens)], start, places[at], tokens - 1 if tokens > 1 else 0) for at in range(rows)
    )


def fastest(forward: Any, rows: int, tokens: int) -> float:
    """Milliseconds of a step."""
    batch = batch_of(rows, tokens)
    memory = forward.memory(rows * -(-(CONTEXT + tokens) // BLOCK))
    took: list[float] = []
    ends = time.perf_counter() + SECONDS
    while len(took) < 3 or time.perf_counter() < ends:
        started = time.perf_counter()
        forward.logits(forward.hidden(batch, memory))
        took.append(time.perf_counter() - started)
    return 1e3 * min(took[1:])


def main() -> None:
    """Answers one line at a time."""
    forward = read(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
    print("ready", flush=True)
    for line in sys.stdin:
        rows, tokens = map(int, line.split())
        print(fastest(forward, rows, tokens), flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
