"""Documents in Markdown: the evidence of a run, the explanation of an answer."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.deployment import FALLBACK, RequestRow
from tailorbird.domain.event import LogEntry
from tailorbird.domain.evidence import Breakdown, Evidence, GateResult, Memorisation, Retention, ScopeEvidence, Slice
from tailorbird.domain.label_review import ReviewResult
from tailorbird.domain.ladder import Allowance, Ladder, RungKind
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.domain.prompt import PromptSearch, TriedPrompt
from tailorbird.domain.release import Release
from tailorbird.domain.rollout import GuardName
from tailorbird.domain.value import Digest, Value
from tailorbird.reporting.ladder import ladder_markdown
from tailorbird.reporting.markdown import markdown_table, markdown_text
from tailorbird.reporting.plan import floor_rows
from tailorbird.reporting.tables import (
    NOTHING,
    SHIFT_HEAD,
    compared_lines,
    decision_text,
    exception_lines,
    finding_text,
    human_count,
    interval,
    metric_text,
    moment,
    shift_rows,
)


class EvidenceFacts(Value):
    """What an evidence page is written from. What is not there yet is None. ``gate`` and ``evidence`` are those of the sealed test, or of
    the candidate that came closest on dev where none was opened; ``sealed`` tells which, ``judged`` names it. ``remedies`` are sentences on
    what could lead to a release, ``approval_remarks`` on what approvals of this tenant prove;
    ``allowances`` are those of rungs that needed leave."""

    run: str
    objective: Objective
    plan: Plan | None = None
    ladder: Ladder | None = None
    gate: GateResult | None = None
    evidence: Evidence | None = None
    sealed: bool = False
    judged: str = ""
    remedies: tuple[str, ...] = ()
    breakdown: Breakdown | None = None
    retention: Retention | None = None
    memorisation: Memorisation | None = None
    review: ReviewResult | None = None
    release: Digest | None = None
    reason: str = ""
    approval_remarks: tuple[str, ...] = ()
    allowances: tuple[Allowance, ...] = ()


def evidence_markdown(facts: EvidenceFacts) -> str:
    """The page."""
    name = f"{facts.objective.tenant}/{facts.objective.name}"
    business = facts.objective.business
    known = f"Run {facts.run}, {business.risk.value} risk, owner {business.owner}, base models: {', '.join(facts.objective.bases)}"
    goal, verdict = markdown_text(business.goal), f"**{markdown_text(_verdict(facts))}**"
    parts = [f"# Evidence: {name}\n\n{goal}\n\n{markdown_text(known)}\n\n{verdict}"]
    parts += ["- " + markdown_text(line) for line in exception_lines(facts.objective.exceptions)]
    parts += [f"## {heading}\n\n{text}" for heading, text in _sections(facts) if text]
    parts.append("Written by tailorbird from the record. Ends of intervals are rounded outwards. No text of a data row is here.")
    if facts.evidence:
        parts.append(f"Candidate `{facts.evidence.candidate}`, item results `{facts.evidence.items}`, measured by {facts.evidence.engine}.")
    return "\n\n".join(parts) + "\n"


def _verdict(facts: EvidenceFacts) -> str:
    if facts.release:
        return f"Released as {short(facts.release)}: {facts.reason}"
    return f"No release: {facts.reason}" if facts.reason else "The run has not ended"


def _sections(facts: EvidenceFacts) -> Iterator[tuple[str, str]]:
    yield "The ladder", ladder_markdown(facts.ladder, facts.objective) if facts.ladder else ""
    yield "What each rung costs to answer with", _serving(facts.ladder) if facts.ladder else ""
    yield "Rungs that needed leave", "\n".join(f"- {markdown_text(one.text)}" for one in facts.allowances)
    yield "What could lead to a release", "\n".join(f"- {markdown_text(line)}" for line in facts.remedies)
    yield "The gate", gate_markdown(facts.gate, facts.judged) if facts.gate else ""
    yield "Where the data have shifted", _shift(facts)
    yield "Requests out of scope", _scope(facts.evidence.scope) if facts.evidence and facts.evidence.scope else ""
    parts = []
    if facts.retention:
        found = facts.retention
        rows = [
            (one.family, f"{one.n}", f"{one.base:.1%}", f"{one.candidate:.1%}", interval(one.drop, one.low, one.high))
            for one in (*found.families, found.overall)
        ]
        parts.append(markdown_table(("probes", "items", "base", "candidate", "drop"), rows))
        parts.append(
            f"Only the base got {found.lost} right, only the candidate {found.won} (McNemar p {found.p_value:.2g}). "
            f"KL of next-token distributions on neutral text: {found.divergence:.3f} nats a token."
        )
    if facts.memorisation:
        parts.append(_memorisation(facts.memorisation))
    yield "What training cost", "\n\n".join(parts)
    yield (
        "Remarks on its answers",
        "\n".join(f"- It {markdown_text(remark)}." for remark in facts.evidence.remarks) if facts.evidence else "",
    )
    yield "How sure it is, and what that is worth", _sureness(facts.breakdown, facts.evidence) if facts.breakdown else ""
    yield "Where it errs", _breakdown(facts.breakdown) if facts.breakdown else ""
    yield "What people say", _review(facts.review) if facts.review else ""
    yield "What approvals are worth here", "\n".join(f"- {markdown_text(line)}" for line in facts.approval_remarks)


def gate_markdown(gate: GateResult, judged: str = "") -> str:
    """A verdict of the gate, and a table of its findings."""
    named = f"{markdown_text(judged)}, " if judged else ""
    opened = (
        f"{named}{gate.split.value} split, look {gate.look}, {gate.adjusted_confidence:.1%} confidence (all looks share the "
        f"{1 - gate.confidence:.0%} of error that the tier leaves): **{gate.verdict.value}**"
    )
    rows = [(f.name, f"{f.bound:g}", finding_text(f), f"{f.n:,}", f.verdict.value, f.reason) for f in gate.findings]
    return f"{opened}\n\n" + markdown_table(("what", "bound", "measured", "items", "verdict", "reason"), rows)


def _shift(facts: EvidenceFacts) -> str:
    # Each rung on dev and the candidate on the sealed test, with the drop on the shifted part; and how those that learned
    # compare.
    # The metric that the drop is of: the one that rungs are compared by.
    ladder = facts.ladder
    evidence = facts.evidence
    if evidence and evidence.compared_on:
        metric = evidence.compared_on
    else:
        compared = next((found.metric for climb in (ladder.climbs if ladder else ()) if (found := climb.against_below)), None)
        known = evidence.shifted_metrics if evidence else {}
        metric = compared or next((name for name in ("accuracy", "exact_match", "ndcg@10") if name in known), next(iter(known), ""))
    rows = shift_rows(facts.ladder, metric) if facts.ladder else []
    if facts.evidence and facts.evidence.shifted and facts.sealed:
        usual, shifted, drop = (
            facts.evidence.metrics.get(metric),
            facts.evidence.shifted_metrics.get(metric),
            facts.evidence.metrics.get("shift"),
        )
        rows.append(("sealed test", metric_text(usual), metric_text(shifted), metric_text(drop), f"{shifted.n:,}" if shifted else ""))
    rows, lines = rows, compared_lines(facts.ladder) if facts.ladder else []
    if not rows:
        return ""
    return "\n\n".join([markdown_table(SHIFT_HEAD, rows), *("- " + markdown_text(line) for line in lines)])


#: What heads the table of thresholds that refuse requests.
SCOPE_HEAD = ("refused below", "of requests that a label fits, refused", "of examples out of scope, answered")


def _scope(scope: ScopeEvidence) -> str:
    lines = "\n".join(f"- {markdown_text(line)}" for line in scope.sentences)
    # What other thresholds would do, that of the release among them where it is one of them.
    points = scope.points if scope else ()
    rows = [(f"{one.refuse_below:.4g}", f"{one.known_refused:.1%}", f"{one.out_of_scope_answered:.1%}") for one in points]
    return f"{lines}\n\n{markdown_table(SCOPE_HEAD, rows)}" if rows else lines


def _memorisation(found: Memorisation) -> str:
    """What came back of what was planted, in two sentences."""
    mean = sum(found.exposures) / len(found.exposures)
    control = "the control was found" if found.valid else "but the control was not found, so this says nothing"
    return (
        f"{found.extracted} of {found.planted} planted strings came back word for word (at most {found.extractable_share:.0%} can); "
        f"{control}. They rank {mean:.1f} bits up among {found.twins} twins (1.4 is chance; p {found.p_value:.2g})."
    )


def _serving(ladder: Ladder) -> str:
    climbs = [*([ladder.floor] if ladder.floor and not ladder.floor_is_rung else []), *ladder.measured]
    names = ("latency_p95_ms", "cost_per_1k_requests")
    rows = [(f"{c.rung.value} {c.variant}", *(metric_text(c.evidence.metrics.get(name)) for name in names)) for c in climbs]
    return markdown_table(("rung", "p95 latency ms", "per 1,000 requests"), rows)


def _sureness(found: Breakdown, evidence: Evidence | None) -> str:
    """How often answers are right where the model is so sure, and what is wrong of what a threshold leaves it to answer."""
    parts = []
    if len(found.reliability) > 1:
        rows = [(f"{one.said:.0%}", f"{one.right:.0%}", f"{one.n}") for one in found.reliability]
        parts.append(markdown_table(("says it is sure by", "is right", "items"), rows))
    points = [one for one in found.referral if one.risk is not None and one.risk_high is not None]
    if len(points) > 2:
        cells = [(f"{one.refer_below:.2f}", f"{one.coverage:.0%}", f"{one.risk:.1%}", f"{one.risk_high:.1%}") for one in points]
        parts.append(markdown_table(("referred below", "answered", "of these wrong", "at most"), cells))
    if parts and evidence and evidence.refer_below is not None:
        parts.append(f"Items below {evidence.refer_below:.2f} are referred to a person.")
    return "\n\n".join(parts)


def _breakdown(found: Breakdown) -> str:
    parts = []
    if found.confusions:
        rows = [(one.target, one.answer, f"{one.count}") for one in found.confusions[:10]]
        parts.append(markdown_table(("is", "was answered", "items"), rows))
    if found.slices and all(one.value == 1 for one in found.slices):
        parts.append("No slice errs: every item is right.")
    elif found.slices:
        slices = [
            (one.segment, one.name, f"{one.n}", interval(one.value, one.low, one.high), ", ".join(short(item) for item in one.worst))
            for one in _worst_slices(found)
        ]
        parts.append(markdown_table(("by", "slice", "items", "right", "see items"), slices))
    return "\n\n".join(parts)


def _worst_slices(found: Breakdown) -> list[Slice]:
    """The three worst slices of each segment."""
    shown: dict[str, list[Slice]] = {}
    for one in found.slices:
        shown.setdefault(one.segment, []).append(one)
    return [one for slices in shown.values() for one in slices[:3]]


def _review(found: ReviewResult) -> str:
    lines = [markdown_text(f"{found.verdict.value}: {found.reason}"), ""]
    for one in found.reviewers:
        flagged = f"; does not count: {one.flagged}" if one.flagged else ""
        lines.append("- " + markdown_text(f"{one.reviewer}: {one.judged} of {found.asked} items{flagged}"))
    return "\n".join(lines)


def difference_range(guard: GuardName, low: float | None, high: float | None) -> str:
    """The ends of the confidence sequence for release less release before, which holds at every look: ``-0.52 to +1.31 points`` of a
    share, ``-8 % to +12 %`` of latency and cost, ``-0.031 to +0.012`` of feedback; a dash where too few units were counted."""
    if low is None or high is None:
        return NOTHING
    if guard in (GuardName.LATENCY, GuardName.COST):
        return f"{100 * math.expm1(low):+.0f} % to {100 * math.expm1(high):+.0f} %"
    if guard is GuardName.FEEDBACK:
        return f"{low:+.3f} to {high:+.3f}"
    return f"{100 * low:+.2f} to {100 * high:+.2f} points"


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


def explanation_markdown(found: Explanation) -> str:
    """The walk from the answer back, in Markdown: a section for each part that has something to say."""
    sections = [f"## {heading}\n\n" + "\n".join(f"- {markdown_text(line)}" for line in lines) for heading, lines in _parts(found)]
    return f"# Request {found.request.id}\n\n" + "\n\n".join(sections) + "\n"


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
        ("gate", _gate_lines(found)),
        ("evidence", _evidence(found)),
        ("data", _data(found)),
        ("people", _people(found)),
        (
            "log",
            [
                f"{entry.index:>5} {entry.event.kind} by {entry.event.actor}, {entry.event.at:%Y-%m-%d %H:%M:%S} UTC"
                for entry in found.events
            ],
        ),
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
    lines = [f"{retrieval.count} of index {short(retrieval.index)}, by {' and '.join(retrieval.ways)}"]
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
    return f"{tried.origin}{mark}, {shown}: {tried.score:.3f} on {tried.rows} rows{against}"


def _gate_lines(found: Explanation) -> list[str]:
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
