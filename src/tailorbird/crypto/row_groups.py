"""Rows that are anchored together, because a decision rests on all of them: none can be added, changed or taken away unseen.

A group has one name and one digest in the log, whatever its size. Left out of it is what nothing rests on: leases, heartbeats, progress,
words that an erasure may empty.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.curation import Decision
from tailorbird.domain.erasure import Erasure
from tailorbird.domain.label_review import Judgement, ModelReview
from tailorbird.domain.look import Look
from tailorbird.domain.quota import Storage
from tailorbird.domain.run import Run, Step, StepState
from tailorbird.domain.value import Digest

#: The places of an objective's rows are anchored in so many groups, by the first digit of the row's id: a change reads its group alone.
_PLACES = "0123456789abcdef"
_OVER = (StepState.DONE, StepState.FAILED)


@dataclass(frozen=True)
class RowGroup:
    """``digest`` is over the rows of the group, None where there is none; ``name`` is that of the group within its tenant."""

    tenant: str
    name: str
    digest: Digest | None


def run_group(run: Run, steps: Iterable[Step]) -> RowGroup:
    """A run with what its steps have left and cost."""
    left = [
        [step.name, step.state.value if step.state in _OVER else "", step.result, step.seconds, step.paid]
        for step in steps
        if step.state in _OVER or step.result or step.seconds or step.paid
    ]
    return _group(run.tenant, f"run/{run.id}", [digest_of(run), left])


def look_group(tenant: str, looks: Iterable[Look]) -> RowGroup:
    """All looks at sealed tests: what is left of the error budgets."""
    return _group(
        tenant, "looks", sorted([look.objective_name, look.number, look.snapshot, look.candidate, look.question] for look in looks)
    )


def place_of_row(row: Digest) -> str:
    """The part of an objective's splits that a row belongs to."""
    place = row[len("sha256:") : len("sha256:") + 1]
    return place if place and place in _PLACES else _PLACES[-1]


def split_groups(
    tenant: str, objective: str, assigned: Mapping[Digest, tuple[str, str]], places: Collection[str] = _PLACES
) -> list[RowGroup]:
    """The splits of an objective's rows, of which ``assigned`` are all in these ``places``."""
    parts: dict[str, list[str]] = {place: [] for place in sorted(places)}
    for row, (split, group) in assigned.items():
        parts[place_of_row(row)].append(f"{row} {split} {group}")
    return [_group(tenant, f"splits/{objective}/{place}", sorted(rows)) for place, rows in parts.items()]


def review_group(tenant: str, release: Digest, judgements: Iterable[Judgement], models: Iterable[ModelReview]) -> RowGroup:
    """The label review of a release: what people and judge models said."""
    said = [digest_of(one.model_copy(update={"reason": ""})) for one in judgements]
    found = [digest_of(one.model_copy(update={"attempts": 0})) for one in models]
    return _group(tenant, f"review/{release}", [said, found] if said or found else [])


def erasure_group(tenant: str, erasures: Iterable[Erasure]) -> RowGroup:
    """All erasures: who must not come back, and the certificates."""
    return _group(tenant, "erasures", sorted(digest_of(one) for one in erasures))


def decision_group(tenant: str, objective: str, decisions: Iterable[Decision]) -> RowGroup:
    """What was decided about rows of an objective."""
    told = [[one.row, one.action.value, one.label, one.by, one.at.isoformat()] for one in decisions]
    return _group(tenant, f"decisions/{objective}", told)


def record_group(tenant: str, kind: str, digests: Iterable[Digest]) -> RowGroup:
    """Which records there are of a kind; what each says has its digest."""
    return _group(tenant, f"records/{kind}", sorted(digests))


def secret_group(tenant: str, name: str, secret: bytes) -> RowGroup:
    """A secret of 256 bits, which its digest does not tell."""
    return _group(tenant, f"secret/{name}", [secret.hex()])


def storage_group(tenant: str, total: Storage) -> RowGroup:
    """How much a tenant has stored, as its quota counts it."""
    return _group(tenant, "stored", [total.artifacts, total.bytes] if total.artifacts else [])


def _group(tenant: str, name: str, rows: Sequence[object]) -> RowGroup:
    text = json.dumps(rows, separators=(",", ":"), sort_keys=True)
    return RowGroup(tenant, name, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if rows else None)
