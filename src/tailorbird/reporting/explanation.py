"""What stands behind an answer, in words.

In: everything an explanation walks through. Out: text. Must not know: how it was found.
"""

from __future__ import annotations

from collections.abc import Iterator

from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.event import LogEntry
from tailorbird.domain.evidence import Evidence, GateResult
from tailorbird.domain.ladder import Ladder
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.domain.release import Release
from tailorbird.domain.value import Value
from tailorbird.foundations.canonical import short
from tailorbird.reporting.formatting import human_count, interval


class Explanation(Value):
    """A request and all that it stands on. Without ``release`` nothing answered it, and the rest is absent."""

    request: RequestRow
    release: Release | None = None
    objective: Objective | None = None
    gate: GateResult | None = None
    evidence: Evidence | None = None
    manifest: SnapshotManifest | None = None
    plan: Plan | None = None
    ladder: Ladder | None = None
    events: tuple[LogEntry, ...] = ()


def explanation(found: Explanation) -> str:
    """The walk from the answer back, one part a paragraph."""
    return "\n".join(
        (
            *_request(found.request),
            *_release(found),
            *_evidence(found),
            *_data(found),
            *_decisions(found),
        )
    )


def _request(row: RequestRow) -> Iterator[str]:
    answered = f", answered {row.prediction!r}" if row.prediction else ""
    yield f"request   {row.id} at {row.at:%Y-%m-%d %H:%M:%S} UTC, key {row.key}, {row.alias}"
    yield f"          {row.outcome} ({row.status}){answered} in {row.latency_ms:.0f} ms, {row.prompt_tokens} prompt tokens"


def _release(found: Explanation) -> Iterator[str]:
    if found.release is None:
        yield f"release   none: {found.request.error or 'nothing answered it'}"
        return
    content = found.release.content
    yield f"release   {found.release.digest}"
    yield f"          {content.rung.value} on {content.base_model_name} ({short(content.base_model)}), now {found.release.state.value}"
    if found.objective:
        yield f"for       {found.objective.business.goal} (owner {found.objective.business.owner}, {content.risk.value} risk)"


def _evidence(found: Explanation) -> Iterator[str]:
    if found.ladder:
        yield f"chosen    {found.ladder.reason}"
    if found.gate is None:
        return
    yield f"gate      {found.gate.verdict.value} on {found.gate.split.value}, look {found.gate.look}: {found.gate.reason}"
    for finding in found.gate.findings:
        if finding.value is not None and finding.low is not None and finding.high is not None:
            measured = interval(finding.value, finding.low, finding.high)
            yield f"          {finding.name} {measured} against {finding.bound:g}: {finding.verdict.value}, {finding.n} items"


def _data(found: Explanation) -> Iterator[str]:
    if found.manifest is None or found.release is None:
        return
    manifest, counts = found.manifest, found.manifest.counts
    yield (
        f"data      snapshot {short(found.release.content.snapshot)}: {human_count(counts.train)} train, {counts.dev} dev, {counts.test} test; "
        f"{manifest.duplicates} duplicates and {manifest.quarantined} faulty rows left out"
    )
    for name, digest in sorted(manifest.files.items()):
        yield f"          from {name} ({short(digest)})"
    for source in found.objective.data if found.objective else ():
        yield f"          {source.path}: {source.source.origin}, {source.source.license}"


def _decisions(found: Explanation) -> Iterator[str]:
    if found.release is None:
        return
    signature = found.release.signature
    yield f"author    {signature.identity} signed it on {signature.at:%Y-%m-%d %H:%M} UTC"
    for approval in found.release.approvals:
        verb = "approved" if approval.decision == "approve" else "rejected"
        reason = f": {approval.reason}" if approval.reason else ""
        yield f"{verb}  {approval.identity} as {approval.role.value}, {approval.signature.at:%Y-%m-%d %H:%M} UTC{reason}"
    for entry in found.events:
        yield f"log {entry.index:>5} {entry.event.kind} by {entry.event.actor}, {entry.event.at:%Y-%m-%d %H:%M:%S}"
