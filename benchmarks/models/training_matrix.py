"""Matrix of architectures in training, written to ``results/models/training.json``: ``training_matrix.py [MODEL_TYPE]...``.

Each architecture is a tiny random model with every kind of layer of its family. The columns: gradients of every adapter parameter (fp32,
B not zero, rows together as the loop computes them) and logits equal those of transformers and PEFT, each row alone; the merged model
equals base and adapter; an interrupted training ends in the same bytes; the doctor finds nothing that stands in the way; QLoRA
trains an adapter that PEFT loads; full fine-tuning writes a model that transformers reads. Beside them: how rows are laid out, and whether
the written-out pass computes them. With names, only those are measured, and the others are kept.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "tests")]

import torch  # noqa: E402
from result_file import read_rows, this_run, write_rows  # noqa: E402

from support.model_families import FAMILIES, write_family  # noqa: E402
from support.training_families import check_training  # noqa: E402

TARGET = HERE.parent / "results" / "models" / "training.json"
COLUMNS = ("gradients", "merged", "resumed", "doctor", "qlora", "full")


def measured(model_type: str) -> dict[str, Any]:
    """One architecture's columns; where it cannot be trained at all, why."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = check_training(write_family(Path(folder) / "base", model_type), Path(folder))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the result of this architecture
            found = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    """Measures, writes and prints."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    known, run = read_rows(TARGET), this_run()
    for name in sys.argv[1:] or sorted(FAMILIES):
        known[name] = measured(name) | {"run": run}
        print(name, json.dumps(known[name]), file=sys.stderr, flush=True)
        bars = _written(known)
    print(json.dumps({"benchmark": "models", "machine": run["machine"], "commit": run["commit"], "bars": bars}))


def _written(known: dict[str, Any]) -> dict[str, Any]:
    """Writes what is known after each architecture, so that a run that is ended keeps what it measured."""
    whole = [name for name, found in known.items() if "failed" not in found and all(found.get(column) for column in COLUMNS)]
    bar = {"value": len(whole), "of": len(known), "bar": 26, "aim": len(known), "unit": "architectures", "holds": len(whole) >= 26}
    bars = {"architectures_trained": bar}
    write_rows(TARGET, known, {"benchmark": "models", "bars": bars})
    return bars


if __name__ == "__main__":
    main()
