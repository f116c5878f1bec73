"""Evidence page of a run, in HTML and Markdown: decisions and the measurements behind them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache

from jinja2 import Environment

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.evidence import Breakdown, Evidence, GateResult, Memorisation, Retention, Slice
from tailorbird.domain.label_review import ReviewResult
from tailorbird.domain.ladder import Allowance, Ladder
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Plan
from tailorbird.domain.rollout import GuardName
from tailorbird.domain.scope import ScopeEvidence
from tailorbird.domain.value import Digest, Value
from tailorbird.reporting import charts
from tailorbird.reporting.html_templates import template_environment
from tailorbird.reporting.ladder_chart import ladder_chart
from tailorbird.reporting.ladder_table import ladder_markdown
from tailorbird.reporting.tables import (
    NOTHING,
    SHIFT_HEAD,
    compared_lines,
    exception_lines,
    finding_text,
    interval,
    judge_text,
    metric_on_shifted,
    metric_text,
    shift_rows,
)
from tailorbird.text.markdown import markdown_table, markdown_text


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


def evidence_html(facts: EvidenceFacts) -> str:
    """The page as one HTML document: styles and pictures are in it, and nothing is fetched."""
    template = _environment().get_template("evidence.html")
    return template.render(
        facts=facts,
        objective=facts.objective,
        ladder=ladder_chart(facts.objective, facts.ladder) if facts.ladder else None,
        findings=[(finding, charts.finding(finding)) for finding in facts.gate.findings] if facts.gate else [],
        curve=charts.curve(facts.breakdown, _threshold(facts)) if facts.breakdown else None,
        reliability=charts.reliability(facts.breakdown) if facts.breakdown else None,
        drops=charts.drops(facts.retention) if facts.retention else None,
        exceptions=exception_lines(facts.objective.exceptions),
        scope_head=SCOPE_HEAD,
        scope_rows=scope_rows(facts.evidence.scope if facts.evidence else None),
        shift_head=SHIFT_HEAD,
        shift=shift_table(facts),
    )


def evidence_markdown(facts: EvidenceFacts) -> str:
    """The same grounds in Markdown, without pictures."""
    name = f"{facts.objective.tenant}/{facts.objective.name}"
    parts = [f"# Evidence: {name}\n\n{markdown_text(facts.objective.business.goal)}\n\n**{markdown_text(_verdict(facts))}**"]
    parts += ["- " + markdown_text(line) for line in exception_lines(facts.objective.exceptions)]
    parts += [f"## {heading}\n\n{text}" for heading, text in _sections(facts) if text]
    return "\n\n".join(parts) + "\n"


def _verdict(facts: EvidenceFacts) -> str:
    if facts.release:
        return f"Released as {short(facts.release)}: {facts.reason}"
    return f"No release: {facts.reason}" if facts.reason else "The run has not ended"


def _threshold(facts: EvidenceFacts) -> float | None:
    return facts.evidence.refer_below if facts.evidence else None


def _sections(facts: EvidenceFacts) -> Iterator[tuple[str, str]]:
    yield "The ladder", ladder_markdown(facts.ladder, facts.objective) if facts.ladder else ""
    yield "Rungs that needed leave", "\n".join(f"- {markdown_text(one.text)}" for one in facts.allowances)
    yield "What could lead to a release", "\n".join(f"- {markdown_text(line)}" for line in facts.remedies)
    yield "The gate", _gate(facts.gate, facts.judged) if facts.gate else ""
    yield "Where the data have shifted", _shift(facts)
    yield "Requests out of scope", _scope(facts.evidence.scope) if facts.evidence and facts.evidence.scope else ""
    yield "What training cost", _safety(facts)
    yield "Remarks on its answers", _remarks(facts.evidence) if facts.evidence else ""
    yield "Where it errs", _breakdown(facts.breakdown) if facts.breakdown else ""
    yield "What people say", _review(facts.review) if facts.review else ""
    yield "What approvals are worth here", "\n".join(f"- {markdown_text(line)}" for line in facts.approval_remarks)


def _gate(gate: GateResult, judged: str) -> str:
    named = f"{markdown_text(judged)}, " if judged else ""
    opened = (
        f"{named}{gate.split.value} split, look {gate.look}, {gate.adjusted_confidence:.1%} confidence (all looks share the "
        f"{1 - gate.confidence:.0%} of error that the tier leaves): **{gate.verdict.value}**"
    )
    rows = [(f.name, f"{f.bound:g}", finding_text(f), f"{f.n:,}", f.verdict.value, f.reason) for f in gate.findings]
    return f"{opened}\n\n" + markdown_table(("what", "bound", "measured", "items", "verdict", "reason"), rows)


def _shift(facts: EvidenceFacts) -> str:
    rows, lines = shift_table(facts)
    if not rows:
        return ""
    return "\n\n".join([markdown_table(SHIFT_HEAD, rows), *("- " + markdown_text(line) for line in lines)])


def shift_table(facts: EvidenceFacts) -> tuple[list[tuple[str, ...]], list[str]]:
    """Each rung on dev and the candidate on the sealed test, with the drop on the shifted part; and how those that learned compare."""
    metric = metric_on_shifted(facts.ladder, facts.evidence)
    rows = shift_rows(facts.ladder, metric) if facts.ladder else []
    if facts.evidence and facts.evidence.shifted and facts.sealed:
        usual, shifted, drop = (
            facts.evidence.metrics.get(metric),
            facts.evidence.shifted_metrics.get(metric),
            facts.evidence.metrics.get("shift"),
        )
        rows.append(("sealed test", metric_text(usual), metric_text(shifted), metric_text(drop), f"{shifted.n:,}" if shifted else ""))
    return rows, compared_lines(facts.ladder) if facts.ladder else []


#: What heads the table of thresholds that refuse requests.
SCOPE_HEAD = ("refused below", "of requests that a label fits, refused", "of examples out of scope, answered")


def scope_rows(scope: ScopeEvidence | None) -> list[tuple[str, ...]]:
    """What other thresholds would do, that of the release among them where it is one of them."""
    points = scope.points if scope else ()
    return [(f"{one.refuse_below:.4g}", f"{one.known_refused:.1%}", f"{one.out_of_scope_answered:.1%}") for one in points]


def _scope(scope: ScopeEvidence) -> str:
    lines = "\n".join(f"- {markdown_text(line)}" for line in scope.sentences)
    rows = scope_rows(scope)
    return f"{lines}\n\n{markdown_table(SCOPE_HEAD, rows)}" if rows else lines


def _remarks(evidence: Evidence) -> str:
    return "\n".join(f"- It {markdown_text(remark)}." for remark in evidence.remarks)


def _safety(facts: EvidenceFacts) -> str:
    parts = []
    if facts.retention:
        found = facts.retention
        rows = [
            (one.family, f"{one.n}", f"{one.base:.1%}", f"{one.candidate:.1%}", interval(one.drop, one.low, one.high))
            for one in (*found.families, found.overall)
        ]
        parts.append(markdown_table(("probes", "items", "base", "candidate", "drop"), rows))
        parts.append(f"KL of next-token distributions on neutral text: {found.divergence:.3f} nats a token.")
    if facts.memorisation:
        parts.append(memorisation_text(facts.memorisation))
    return "\n\n".join(parts)


def memorisation_text(found: Memorisation) -> str:
    """What came back of what was planted, in two sentences."""
    mean = sum(found.exposures) / len(found.exposures)
    control = "the control was found" if found.valid else "but the control was not found, so this says nothing"
    return (
        f"{found.extracted} of {found.planted} planted strings came back word for word (at most {found.extractable_share:.0%} can); "
        f"{control}. They rank {mean:.1f} bits up among {found.twins} twins (1.4 is chance; p {found.p_value:.2g})."
    )


def _breakdown(found: Breakdown) -> str:
    parts = []
    if found.confusions:
        rows = [(one.target, one.answer, f"{one.count}") for one in found.confusions[:10]]
        parts.append(markdown_table(("is", "was answered", "items"), rows))
    if found.slices and not is_wrong(found):
        parts.append("No slice errs: every item is right.")
    elif found.slices:
        slices = [
            (one.segment, one.name, f"{one.n}", interval(one.value, one.low, one.high), ", ".join(short(item) for item in one.worst))
            for one in worst_slices(found)
        ]
        parts.append(markdown_table(("by", "slice", "items", "right", "see items"), slices))
    return "\n\n".join(parts)


def is_wrong(found: Breakdown) -> bool:
    """True where some item of some slice is."""
    return any(one.value < 1 for one in found.slices)


def worst_slices(found: Breakdown) -> list[Slice]:
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
    lines += ["- " + markdown_text(judge_text(judge)) for judge in found.judges]
    return "\n".join(lines)


@cache
def _environment() -> Environment:
    made = template_environment()
    made.filters.update(memorised=memorisation_text, worst=worst_slices, errs=is_wrong, judged=judge_text)
    made.globals["interval"] = interval
    return made


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
