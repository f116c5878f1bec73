"""Values that tests of the watch are made of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

import support.ledger_samples as sample
from support.release import manifest as a_manifest
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import SnapshotManifest, SourceShape, SplitCounts
from tailorbird.domain.deployment import RequestRow, Traffic
from tailorbird.domain.feedback import Severity, Signal
from tailorbird.monitoring.production_check import Reference, WatchInputs, check_release
from tailorbird.monitoring.service import Expectation
from tailorbird.monitoring.sketch import sketch

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RELEASE = digest_bytes(b"release")
TOPICS = {
    "lost_card": ["card", "lost", "stolen", "replace", "block", "wallet", "urgent"],
    "top_up": ["top", "up", "money", "balance", "add", "account", "app"],
    "refund": ["refund", "charged", "twice", "shop", "return", "payment"],
}


def messages(topics: Sequence[str], n: int, seed: int) -> list[tuple[str, str]]:
    """``n`` messages of 5 to 14 words, each with its topic."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(topics), n)
    filler = ["i", "my", "the", "please", "can", "you", "help", "with", "a", "to", "is"]
    made = []
    for place in chosen:
        words = generator.choice([*TOPICS[topics[place]], *filler], generator.integers(5, 15))
        made.append((" ".join(words), topics[place]))
    return made


def request(text: str, prediction: str | None, n: int, **changes: object) -> RequestRow:
    said = {"id": f"req-{n}", "release": RELEASE, "arm": "control", "prediction": prediction, "latency_ms": 20.0, "at": NOW}
    about = {"characters": len(text), "sketch": sketch(text), "completion_tokens": 0, "confidence": None}
    return sample.request("acme", n).model_copy(update=said | about | changes)


def requests(said: Sequence[tuple[str, str]]) -> tuple[RequestRow, ...]:
    return tuple(request(text, topic, place) for place, (text, topic) in enumerate(said))


def traffic(ok: int = 1000, errors: int = 0, refused: int = 0, p95: float = 50.0, cost: float = 0.1) -> Traffic:
    return Traffic(
        release=RELEASE,
        alias="routing",
        requests=ok + errors + refused,
        ok=ok,
        errors=errors,
        refused=refused,
        aborted=0,
        latency_p50_ms=p95 / 2,
        latency_p95_ms=p95,
        prompt_tokens=10 * ok,
        completion_tokens=0,
        cost=cost,
        first=NOW,
        last=NOW,
    )


def manifest(read: int = 1000, quarantined: int = 20, labels: Sequence[str] = tuple(TOPICS)) -> SnapshotManifest:
    counts = SplitCounts(train=800, dev=90, test=90)
    files = {"train.csv": digest_bytes(b"file")}
    sources = {"train.csv": SourceShape(rows=read, columns=("label", "text"))}
    made = {"objective": "routing", "read": read, "quarantined": quarantined, "counts": counts, "files": files, "sources": sources}
    return a_manifest().model_copy(update=made | {"label_counts": dict.fromkeys(labels, counts)})


def by_name(signals: Sequence[Signal]) -> dict[str, Signal]:
    found = {signal.name: signal for signal in signals}
    assert len(found) == len(signals), "a reading was given twice"
    return found


def severities(signals: Sequence[Signal]) -> dict[str, Severity]:
    return {signal.name: signal.severity for signal in signals}


def look(
    live: Sequence[RequestRow] = (),
    held: Reference | None = None,
    flow: Traffic | None = None,
    expected: Expectation | None = None,
) -> tuple[Signal, ...]:
    return check_release(
        WatchInputs(
            tenant="acme",
            objective="routing",
            release=RELEASE,
            at=NOW,
            reference=held,
            requests=tuple(live),
            traffic=flow,
            expected=expected or Expectation(),
        )
    )
