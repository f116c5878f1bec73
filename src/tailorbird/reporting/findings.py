"""Findings as text and tables: gate, risk-tier exceptions, LLM judges, shifted part."""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.effect import EffectReading, EffectStanding
from tailorbird.domain.evidence import Comparison, Evidence, GateResult
from tailorbird.domain.label_review import JudgeResult
from tailorbird.domain.ladder import Climb, Ladder
from tailorbird.domain.objective import RuleException
from tailorbird.domain.release import Approval, Release
from tailorbird.reporting.number_formats import NOTHING, difference_text, finding_text, interval, metric_text, moment
from tailorbird.reporting.tables import FittedTable, add_row, plain_table


def exception_lines(exceptions: Sequence[RuleException]) -> list[str]:
    """One sentence an exception: the rule, who decided it, and why."""
    return [f"exception from {each.rule.replace('_', ' ')}, decided by {each.by}: {each.because}" for each in exceptions]


def gate_table(gate: GateResult) -> FittedTable:
    """One row a KPI or limit: the bound, what was measured with its interval, the verdict and its reason."""
    table = plain_table(("what", "bound", "measured", "items", "verdict", "reason"), ("bound", "items"))
    for finding in gate.findings:
        cells = (finding.name, f"{finding.bound:g}", finding_text(finding), f"{finding.n:,}", finding.verdict.value, finding.reason)
        add_row(table, cells)
    return table


def release_summary(release: Release) -> str:
    """A release in a few lines: what it is, by digest, and who decided what."""
    content = release.content
    facts = [
        ("release", release.digest),
        ("state", release.state.value),
        ("objective", f"{content.tenant}/{content.objective_name} ({content.risk.value} risk), run {content.run}"),
        ("rung", f"{content.rung.value} on {content.base_model_name}"),
    ]
    named = {"base": content.base_model, "adapter": content.adapter, "weights": content.weights, "data": content.snapshot}
    named |= {"encoder": content.encoder}
    named |= {"evidence": release.dossier.test_evidence, "gate": release.dossier.gate, "effect": release.dossier.effect}
    named |= {"template": content.chat_template, "tokenizer": content.tokenizer}
    facts += [(name, short(digest)) for name, digest in named.items() if digest]
    facts.append(("signed", f"by {release.signature.identity}, {moment(release.signature.at)}"))
    facts += [decision_text(approval) for approval in release.approvals]
    return "\n".join(f"{name:<9} {fact}" for name, fact in facts)


def effect_text(reading: EffectReading, proven: Sequence[str], unprovable: str) -> str:
    """What an engine showed of a release, in a sentence."""
    if reading.standing is EffectStanding.UNPROVEN:
        return "unproven: the release carries no probes: it is older than they are, ranks documents, or is a hosted model"
    if reading.standing is EffectStanding.UNPROVABLE:
        return f"unprovable: {unprovable or 'a server that tells no log-probabilities cannot show it'}"
    kinds = f"; it would have shown the absence of {', '.join(proven)}" if proven else ""
    moved = f"moves its base by {reading.effect:.3f} nats," if reading.effect else "answers"
    apart = f"{reading.distance:.3f}{'' if reading.effect else ' nats'} from what was measured, where {reading.allowed:.3f} are allowed"
    return f"{reading.standing.value}: the engine {moved} {apart}{kinds}"


def decision_text(approval: Approval) -> tuple[str, str]:
    """What somebody decided: the verb, and who, in which role, when and why."""
    verb = "approved" if approval.decision == "approve" else "rejected"
    reason = f": {approval.reason}" if approval.reason else ""
    return verb, f"by {approval.identity} as {approval.role.value}, {moment(approval.signature.at)}{reason}"


def judge_text(judge: JudgeResult) -> str:
    """Which model (name and digest), what it prefers, how far its own two orders agree, and what that is worth."""
    named = f"judge {judge.model}" + (f" ({short(judge.base)})" if judge.base else "")
    win = judge.win_rate
    if win.value is None or win.low is None or win.high is None or judge.agreed is None:
        return f"{named}: {judge.reason}"
    told = f"preferred the candidate's answers in {interval(win.value, win.low, win.high)} of {judge.judged} items"
    return f"{named}: {told}; both orders agreed on {judge.agreed:.0%}; {judge.reason}"


#: What heads the table of ``shift_rows``.
SHIFT_HEAD = ("rung", "usual items", "shifted items", "drop", "items")


def shift_rows(ladder: Ladder, metric: str) -> list[tuple[str, ...]]:
    """Each rung with ``metric`` on the usual items of dev, on those of the shifted part, and the drop between the two."""
    return [_row(climb, metric) for climb in ladder.measured if climb.evidence.shifted]


def compared_lines(ladder: Ladder) -> list[str]:
    """Candidates that learned, in pairs on the shifted part of dev: one sentence a line."""
    names = {climb.candidate: f"{climb.rung.value} {climb.variant}" for climb in ladder.measured}
    return [_compared(found, names) for found in ladder.on_shifted]


def metric_on_shifted(ladder: Ladder | None, evidence: Evidence | None) -> str:
    """The metric that the drop is of: the one that rungs are compared by."""
    if evidence and evidence.compared_on:
        return evidence.compared_on
    compared = next((found.metric for climb in (ladder.climbs if ladder else ()) if (found := climb.against_below)), None)
    known = evidence.shifted_metrics if evidence else {}
    return compared or next((name for name in ("accuracy", "exact_match", "ndcg@10") if name in known), next(iter(known), ""))


def _row(climb: Climb, metric: str) -> tuple[str, ...]:
    usual, shifted, drop = (
        climb.evidence.metrics.get(metric),
        climb.evidence.shifted_metrics.get(metric),
        climb.evidence.metrics.get("shift"),
    )
    items = f"{shifted.n:,}" if shifted else NOTHING
    return (f"{climb.rung.value} {climb.variant}", metric_text(usual), metric_text(shifted), metric_text(drop), items)


def _compared(found: Comparison, names: dict[str, str]) -> str:
    upper, lower = names.get(found.upper, "?"), names.get(found.lower, "?")
    return f"{upper} against {lower} on the same {found.n:,} shifted items, {found.metric}: {difference_text(found)}"
