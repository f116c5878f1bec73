"""Explanation of an answer: release, evidence, data, policy and approvers."""

from __future__ import annotations

from collections.abc import Iterator

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.deployment import FALLBACK, RequestRow
from tailorbird.domain.event import LogEntry
from tailorbird.domain.evidence import Evidence, GateResult
from tailorbird.domain.ladder import Ladder, RungKind
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.domain.prompt import PromptSearch, TriedPrompt
from tailorbird.domain.release import Release
from tailorbird.domain.value import Value
from tailorbird.reporting.plan_table import floor_rows
from tailorbird.reporting.tables import decision_text, finding_text, human_count, moment
from tailorbird.text.markdown import markdown_text

#: One part of the walk: its heading, and its lines.
Part = tuple[str, list[str]]


class Explanation(Value):
    """A request and all that it stands on. Without ``release`` nothing answered it, and the rest is absent. ``ranker`` is the release whose
    encoder finds its passages, where it has one, ``search`` the log of its prompt's search. ``remarks`` say what keeps the approvals from
    proving that several people agreed."""

    request: RequestRow
    release: Release | None = None
    objective: Objective | None = None
    gate: GateResult | None = None
    evidence: Evidence | None = None
    manifest: SnapshotManifest | None = None
    plan: Plan | None = None
    ladder: Ladder | None = None
    events: tuple[LogEntry, ...] = ()
    ranker: Release | None = None
    search: PromptSearch | None = None
    remarks: tuple[str, ...] = ()


def explanation(found: Explanation) -> str:
    """The walk from the answer back: a heading beside the lines of each part."""
    shown = [(heading if first else "", line) for heading, lines in _parts(found) for first, line in _marked(lines)]
    return "\n".join(f"{heading:<9} {line}" for heading, line in shown)


def explanation_markdown(found: Explanation) -> str:
    """The same in Markdown: a section a part."""
    sections = [f"## {heading}\n\n" + "\n".join(f"- {markdown_text(line)}" for line in lines) for heading, lines in _parts(found)]
    return f"# Request {found.request.id}\n\n" + "\n\n".join(sections) + "\n"


def _marked(lines: list[str]) -> Iterator[tuple[bool, str]]:
    return ((place == 0, line) for place, line in enumerate(lines))


def _parts(found: Explanation) -> list[Part]:
    """All parts that have something to say."""
    parts = [
        ("request", _request(found.request)),
        ("release", _release(found)),
        ("passages", _passages(found)),
        ("goal", _goal(found)),
        ("chosen", _chosen(found)),
    ]
    parts += [
        ("gate", _gate(found)),
        ("evidence", _evidence(found)),
        ("data", _data(found)),
        ("people", _people(found)),
        ("log", _log(found)),
    ]
    return [part for part in parts if part[1]]


def _request(row: RequestRow) -> list[str]:
    refused = ", out of scope: none of the labels fits, left to people" if row.out_of_scope else ""
    answered = f", answered {row.prediction!r}" if row.prediction else refused
    stood_in = ["the hosted model of the release that was asked did not answer: this one did"] if row.arm == FALLBACK else []
    return [
        f"{row.id} at {row.at:%Y-%m-%d %H:%M:%S} UTC, key {row.key}, {row.alias}",
        f"{row.outcome} ({row.status}){answered} in {row.latency_ms:.0f} ms, {row.prompt_tokens} prompt tokens",
        *stood_in,
        *([f"{row.paid:.6f} paid to the endpoint {row.endpoint}"] if row.endpoint else []),
    ]


#: What answers without a language model.
_LINEAR = {RungKind.FLOOR: "a classical model", RungKind.ENCODER: "an encoder tuned for the labels, with a linear head"}


def _release(found: Explanation) -> list[str]:
    if found.release is None:
        return [f"none: {found.request.error or 'nothing answered it'}"]
    content, state = found.release.content, found.release.state.value
    if (hosted := content.hosted) is not None:
        return [found.release.digest, f"{content.rung.value}, {hosted.model} at {hosted.endpoint} ({hosted.url}), now {state}"]
    made_from = _LINEAR[content.rung] if content.floor else f"on {content.base_model_name} ({short(content.base_model)})"
    if content.encoder:
        made_from = f"an adapter of the encoder {short(content.encoder)}, tuned for the labels, with a linear head"
    return [found.release.digest, f"{content.rung.value}{', ' if content.floor else ' '}{made_from}, now {state}"]


def _passages(found: Explanation) -> list[str]:
    """Where the passages of an answer are from, and what finds them."""
    retrieval = found.release.content.retrieval if found.release else None
    if retrieval is None or retrieval.what != "passages":
        return []
    rewritten = ", of a conversation by its last message as the base model rewrites it" if retrieval.rewrite else ""
    lines = [f"{retrieval.count} of index {short(retrieval.index)}, by {' and '.join(retrieval.ways)}{rewritten}"]
    if (ranker := found.ranker) is None:
        return lines
    content, approved = ranker.content, [" ".join(decision_text(approval)) for approval in ranker.approvals]
    by = f"{content.rung.value} on {content.base_model_name}, now {ranker.state.value}"
    return [*lines, f"found by the encoder of {content.tenant}/{content.objective_name}, release {ranker.digest}: {by}", *approved]


def _goal(found: Explanation) -> list[str]:
    if found.objective is None:
        return []
    business = found.objective.business
    return [f"{business.goal} (owner {business.owner}, {business.risk.value} risk)"]


def _chosen(found: Explanation) -> list[str]:
    floor = [name for name, _ in floor_rows(found.plan)] if found.plan else []
    planned = floor + [f"{rung.rung.value} {rung.variant}" for rung in found.plan.rungs] if found.plan else []
    among = [f"among {', '.join(planned)}"] if planned else []
    return [*among, *([found.ladder.reason] if found.ladder else []), *_searched(found.search)]


#: Prompts of a search that an explanation names.
_NAMED = 5


def _searched(search: PromptSearch | None) -> list[str]:
    """A prompt's search, with the prompts that were tried on the most rows."""
    if search is None:
        return []
    ahead = sorted(search.tried, key=lambda tried: (tried.prompt != search.chosen, -tried.rows, -tried.score))[:_NAMED]
    return [f"the prompt was searched: {search.sentence}", *(f"  {_tried(search, tried)}" for tried in ahead)]


def _tried(search: PromptSearch, tried: TriedPrompt) -> str:
    mark = " (chosen)" if tried.prompt == search.chosen else ""
    against = "" if tried.prompt == search.start else f", {tried.difference:+.3f} [{tried.low:+.3f}, {tried.high:+.3f}]"
    shown = f"{len(tried.demonstrations)} demonstrations"
    return f"{tried.origin}{mark}, {shown}: {tried.score:.3f} on {tried.rows} rows{against}: {tried.instruction}"


def _gate(found: Explanation) -> list[str]:
    if found.gate is None:
        return []
    gate = found.gate
    findings = [
        f"{finding.name} {finding_text(finding)} against {finding.bound:g}: {finding.verdict.value}, {finding.n:,} items"
        for finding in gate.findings
    ]
    return [f"{gate.verdict.value} on {gate.split.value}, look {gate.look}: {gate.reason}", *findings]


def _evidence(found: Explanation) -> list[str]:
    evidence = found.evidence
    if evidence is None:
        return []
    use = evidence.hosted
    guessed = f", tokens of {use.estimated:,} estimated high" if use and use.estimated else ""
    asked = [f"{use.requests:,} requests, {use.refused:,} refused, for {use.money:.4f} {use.currency}{guessed}"] if use else []
    scope = evidence.scope.sentences if evidence.scope else ()
    return [f"{evidence.n:,} {evidence.split.value} items, results kept as {short(evidence.items)}, by {evidence.engine}", *asked, *scope]


def _data(found: Explanation) -> list[str]:
    if found.manifest is None:
        return []
    manifest, counts = found.manifest, found.manifest.counts
    frozen = f"snapshot {short(found.release.content.snapshot)}: " if found.release else ""
    kept = f"{human_count(counts.train)} train, {human_count(counts.dev)} dev, {human_count(counts.test)} test"
    files = [f"from {name} ({short(digest)})" for name, digest in sorted(manifest.files.items())]
    sources = found.objective.data if found.objective else ()
    terms = [f"{source.path}: {source.source.origin}, {source.source.license}" for source in sources]
    return [f"{frozen}{kept}; {manifest.duplicates} duplicates and {manifest.quarantined} faulty rows left out", *files, *terms]


def _people(found: Explanation) -> list[str]:
    if found.release is None:
        return []
    signature = found.release.signature
    decided = [" ".join(decision_text(approval)) for approval in found.release.approvals]
    return [f"signed by {signature.identity}, {moment(signature.at)}", *decided, *found.remarks]


def _log(found: Explanation) -> list[str]:
    return [f"{entry.index:>5} {entry.event.kind} by {entry.event.actor}, {entry.event.at:%Y-%m-%d %H:%M:%S} UTC" for entry in found.events]
