"""Label errors: 5 % of Banking77's labels are changed; how many of them stand in the first tenth of the ranking?"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence

from rows import banking77

from tailorbird.data import label_suspects, row_id
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.objective import Task, TaskKind

SEED = 11
SHARE = 0.05


def main() -> None:
    argparse.ArgumentParser().parse_known_args()
    drawn, rows = random.Random(SEED), list(dict(banking77()).items())
    labels = sorted({label for _, label in rows})
    wrong = set(drawn.sample(range(len(rows)), int(SHARE * len(rows))))
    given = [
        drawn.choice([other for other in labels if other != label]) if place in wrong else label for place, (_, label) in enumerate(rows)
    ]
    made = [_row(place, text, given[place]) for place, (text, _) in enumerate(rows)]
    start = time.perf_counter()
    made.sort(key=lambda row: row.id)
    suspects = label_suspects(made, Task(kind=TaskKind.CLASSIFY, instruction="-")).ranked
    seconds = time.perf_counter() - start
    found, first = _found(suspects, wrong, len(rows) // 10), len(rows) // 10
    print(f"{len(suspects):,} suspects in {seconds:.1f} s; {found:.4f} of the errors are among the first {first:,}", file=sys.stderr)
    bar = {"value": round(found, 4), "bar": 0.8, "unit": "share of planted errors in the first tenth", "holds": found >= 0.8}
    half = round(_found(suspects, wrong, len(wrong)), 4)
    print(json.dumps({"label_errors_found": bar | {"in_as_many_as_planted": half, "seconds": round(seconds, 1), "rows": len(rows)}}))


def _found(suspects: Sequence[object], wrong: set[int], first: int) -> float:
    return len({suspect.line for suspect in suspects[:first]} & wrong) / len(wrong)  # type: ignore[attr-defined]


def _row(place: int, text: str, label: str) -> Row:
    digest = "sha256:" + "0" * 64
    terms = {"origin": "-", "license": "-", "collected": "-", "consent": "-"}
    provenance = Provenance(file="train.csv", file_digest=digest, line=place, **terms)
    return Row(id=row_id(text, label), text=text, target=label, group=digest, split=Split.TRAIN, provenance=provenance)


if __name__ == "__main__":
    main()
