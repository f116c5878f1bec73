"""docs/reference/models.md, written from ``results/models/training.json`` and ``inference.json``: ``page.py``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from textwrap import fill
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_file import read_rows

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "models"
TRAINING = ("gradients", "merged", "resumed", "doctor", "qlora", "full")
ENCODING = ("mixed_equals_alone",)
INFERENCE = ("equals_transformers", "adapters_equal_peft", "mixed_equals_alone")
HEADER = """# Models

Written by `benchmarks/models/page.py` from `benchmarks/results/models/`; do not edit. Every
architecture is a tiny random model, made from a config, with every kind of layer of its family,
so nothing is downloaded. A base model of an architecture that is not listed is tried: the same
tests of equality on its own config decide how it is trained and served
([base models](../design/base-models.md)). vLLM was not run on these models. Sliding windows of the
tiny models are 8 tokens wide, narrower than the rows of the test; in a model whose rows lie within
its window the test may pass (it does for Mistral), and rows are packed.

| column | meaning |
|---|---|
| rows | how a training lays out rows: behind their shared prompt (`packed`), padded to one length, one at a time |
| gradients | of every adapter parameter, and the adapter's logits in PEFT: those of transformers and PEFT, each row alone, in fp32 |
| merged | the merged model equals base and adapter |
| resumed | an interrupted training ends in the same bytes |
| doctor | the doctor examines the job and finds nothing that stands in its way |
| qlora, full | an adapter on the quantised base; all weights |
| served | the engine's label scores and greedy tokens are those of transformers |
| adapters | adapters in the engine are those of PEFT |
| mixed | requests of two adapters and of the base in one step equal each alone |
"""


def main() -> None:
    """Writes the page."""
    (ROOT / "docs" / "reference" / "models.md").write_text(
        page(*(read_rows(RESULTS / f"{part}.json") for part in ("training", "inference"))), encoding="utf-8"
    )


def page(trained: dict[str, Any], served: dict[str, Any]) -> str:
    """The page: a table of decoders, one of encoders, and what does not hold, with its reason."""
    decoders = sorted(name for name in {*trained, *served} if served.get(name, {}).get("pass") != "encoder")
    encoders = sorted(set(served) - set(decoders))
    reasons = {name: [*_why(trained.get(name), TRAINING), *_why(served.get(name), INFERENCE)] for name in decoders}
    reasons |= {name: _why(served[name], ENCODING) for name in encoders}
    whole = [name for name in decoders if not reasons[name]]
    lines = [HEADER, f"{len(whole)} of {len(decoders)} decoders have every column.", ""]
    lines += ["| type | rows | gradients | merged | resumed | doctor | qlora | full | served | adapters | mixed |", "|" + "---|" * 11]
    for name in decoders:
        mine, theirs = trained.get(name, {}), served.get(name, {})
        marks = [_mark(mine, column) for column in TRAINING] + [_mark(theirs, column) for column in INFERENCE]
        lines.append(f"| `{name}` | {_rows(mine)} | {' | '.join(marks)} |")
    lines += ["", "## What does not hold", "", *(f"- `{name}`: {why}" for name, found in reasons.items() for why in found)]
    alike = ", ".join(f"`{name}`" for name in encoders if not reasons[name]) or "none"
    told = f"Any encoder that transformers reads is taken (rungs.md, Encoders). Texts in one batch have the vectors of each alone: {alike}."
    lines += ["", "## Encoders", "", fill(told, 98, break_on_hyphens=False), ""]
    lines += [fill(f"Training: {_origin(trained)}. Inference: {_origin(served)}.", 98, break_on_hyphens=False), ""]
    return "\n".join(lines)


def _origin(rows: dict[str, Any]) -> str:
    """When and by which commit rows were measured, with their number for each."""
    runs = Counter("measured {at:.10}, transformers {transformers}, commit {commit}".format(**row["run"]) for row in rows.values())
    return "; ".join(f"{count} architecture{'s' * (count > 1)} {run}" for run, count in runs.most_common())


def _rows(found: dict[str, Any]) -> str:
    return {"tree": "packed"}.get(found.get("layout", ""), found.get("layout", ""))


def _mark(found: dict[str, Any], column: str) -> str:
    return "untested" if column not in found and "failed" not in found else "yes" if found.get(column) else "no"


def _why(found: dict[str, Any] | None, columns: tuple[str, ...]) -> list[str]:
    """What does not hold, and why where that was told."""
    if found is None:
        return ["untested"]
    if "failed" in found:
        return [found["failed"]]
    reasons: dict[str, list[str]] = {}
    for column in columns:
        if not found.get(column):
            reasons.setdefault(found.get(f"{column}_why", "untested" if column not in found else "differs"), []).append(column)
    return [f"{', '.join(names)}: {why}" for why, names in reasons.items()]


if __name__ == "__main__":
    main()
