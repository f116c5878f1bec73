"""Personal data: recall and precision by kind, beside Presidio on the same texts.

A value counts as found when a span of its kind covers most of it (half of the joint length at least); a span that covers no value of its
kind is a false alarm, whichever text it stands in. Presidio's score threshold is the best of three for it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from peers import python_of, versions

from tailorbird.data.privacy import OwnDetector
from tailorbird.domain.curation import PrivacyPolicy

HERE = Path(__file__).resolve().parent
CHECKSUM = ("card", "iban", "national_id")
SEED = 2026

Span = tuple[int, int, str]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--show", action="store_true", help="print what was missed or wrong, for development")
    given = parser.parse_args()
    rows = corpus(1000 if given.quick else 2000)
    texts = [row["text"] for row in rows]
    detector = OwnDetector(PrivacyPolicy().regions)
    ours = [[(span.start, span.end, span.kind.value) for span in spans] for spans in detector.detect(texts)]
    theirs = {threshold: presidio(texts, threshold) for threshold in ((0.4,) if given.quick else (0.1, 0.4, 0.6))}
    if given.show:
        show(rows, ours)
    bars: dict[str, object] = {}
    for name, kinds in {"checksum_kinds": CHECKSUM, "phones": ("phone",), "emails": ("email",)}.items():
        bars |= judged(name, rows, ours, theirs, kinds)
    print(json.dumps(bars))


def corpus(count: int) -> list[dict[str, object]]:
    done = subprocess.run(
        [str(python_of("privacy")), str(HERE / "privacy_corpus.py"), str(SEED), str(count)], check=True, capture_output=True, text=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def presidio(texts: Sequence[str], threshold: float) -> list[list[Span]]:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    command = [str(python_of("privacy")), str(HERE / "privacy_peer.py"), str(threshold)]
    done = subprocess.run(command, input=lines, check=True, capture_output=True, text=True)
    return [[(start, end, kind) for start, end, kind in json.loads(line)] for line in done.stdout.splitlines()]


def judged(
    name: str,
    rows: Sequence[dict[str, object]],
    ours: Sequence[Sequence[Span]],
    theirs: dict[float, list[list[Span]]],
    kinds: Sequence[str],
) -> dict[str, object]:
    recall, precision, values = rates(rows, ours, kinds)
    peer = max((rates(rows, found, kinds) for found in theirs.values()), key=lambda rate: rate[0] + rate[1])
    checksum = kinds == CHECKSUM
    bar_recall, bar_precision = (0.98, 0.97) if checksum else (0.95, 0.95)
    detail = {"values": values, "by_kind": by_kind(rows, ours, kinds), "peer": versions("privacy")}
    return {
        f"{name}_recall": bar(recall, max(bar_recall, peer[0]) if checksum else bar_recall, peer[0]) | detail,
        f"{name}_precision": bar(precision, max(bar_precision, peer[1]) if checksum else bar_precision, peer[1]),
    }


def bar(value: float, least: float, peer: float) -> dict[str, object]:
    return {"value": round(value, 4), "bar": round(least, 4), "unit": "share", "holds": value >= least, "presidio": round(peer, 4)}


def rates(rows: Sequence[dict[str, object]], found: Sequence[Sequence[Span]], kinds: Sequence[str]) -> tuple[float, float, int]:
    """Recall, precision, number of values."""
    values = hits = alarms = 0
    for row, spans in zip(rows, found, strict=True):
        wanted = [span for span in row["spans"] if span[2] in kinds]  # type: ignore[attr-defined]
        given = [span for span in spans if span[2] in kinds]
        values += len(wanted)
        hits += sum(any(covers(span, value) for span in given) for value in wanted)
        alarms += sum(not any(covers(span, value) for value in wanted) for span in given)
    return hits / max(1, values), hits / max(1, hits + alarms), values


def covers(span: Sequence[object], value: Sequence[object]) -> bool:
    """Same kind, and the overlap is at least half of both together."""
    (start, end, kind), (first, last, wanted) = span[:3], value[:3]
    overlap = min(end, last) - max(start, first)  # type: ignore[call-overload]
    return kind == wanted and 2 * overlap >= max(end, last) - min(start, first)  # type: ignore[call-overload]


def by_kind(rows: Sequence[dict[str, object]], found: Sequence[Sequence[Span]], kinds: Sequence[str]) -> dict[str, list[float]]:
    return {kind: [round(rate, 4) for rate in rates(rows, found, (kind,))[:2]] for kind in kinds}


def show(rows: Sequence[dict[str, object]], found: Sequence[Sequence[Span]]) -> None:
    missed, wrong = Counter[tuple[object, ...]](), Counter[tuple[object, ...]]()
    for row, spans in zip(rows, found, strict=True):
        for value in row["spans"]:  # type: ignore[attr-defined]
            if not any(covers(span, value) for span in spans):
                missed[value[2], value[3]] += 1
                if missed[value[2], value[3]] <= 4:
                    print("missed", value[2:], row["text"], spans, file=sys.stderr)
        for span in spans:
            if not any(covers(span, value) for value in row["spans"]):  # type: ignore[attr-defined]
                wrong[span[2], row["negative"]] += 1
                if wrong[span[2], row["negative"]] <= 3:
                    print("wrong", span, row["text"], file=sys.stderr)
    print(missed, wrong, file=sys.stderr)


if __name__ == "__main__":
    main()
