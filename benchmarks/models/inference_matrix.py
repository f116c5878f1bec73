"""Matrix of architectures on the inference engine, written to ``results/models/inference.json``: ``inference_matrix.py [MODEL_TYPE]...``.

Each architecture is a tiny random model with every kind of layer of its family. The columns: the engine equals transformers
(log-probabilities of labels, greedy tokens), adapters on every linear layer equal PEFT, requests of two adapters and of the bare base in
the same steps equal each alone. Encoders: vectors of texts of several lengths in one batch equal those of each alone. With names, only
those are measured, and the others are kept as they are.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "tests")]

import torch  # noqa: E402
from result_file import read_rows, this_run, write_rows  # noqa: E402

from support.family_checks import TEXTS, check_family  # noqa: E402
from support.model_families import ENCODERS, FAMILIES, write_family  # noqa: E402
from tailorbird.inference import open_encoder  # noqa: E402

TARGET = HERE.parent / "results" / "models" / "inference.json"


def measured(model_type: str) -> dict[str, Any]:
    """One architecture's columns; where it cannot be computed at all, why."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = write_family(Path(folder) / "model", model_type, spread=2.0)
            found = encoder(model) if model_type in ENCODERS else check_family(model, model_type, Path(folder))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the result of this architecture
            found = {"failed": f"{type(error).__name__}: {str(error)[:200]}"}
    if model_type in ENCODERS:
        found["pass"] = "encoder"
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def encoder(folder: Path) -> dict[str, Any]:
    """The columns of an encoder."""
    together = open_encoder().embed(folder, TEXTS)
    off = max(abs(float(x)) for text, row in zip(TEXTS, together, strict=True) for x in open_encoder().embed(folder, [text])[0] - row)
    return {"mixed_equals_alone": off < 1e-5, "off": off}


def main() -> None:
    torch.set_num_threads(1)
    known, run = read_rows(TARGET), this_run()
    for name in sys.argv[1:] or [*sorted(FAMILIES), *sorted(ENCODERS)]:
        known[name] = measured(name) | {"run": run}
        print(name, json.dumps(known[name]), file=sys.stderr, flush=True)
    columns = ("equals_transformers", "adapters_equal_peft", "adapters_have_effect", "mixed_equals_alone")
    whole = [name for name, found in known.items() if "failed" not in found and all(found.get(column, True) for column in columns)]
    told = {"holding": len(whole), "of": len(known)}
    write_rows(TARGET, known, told)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
