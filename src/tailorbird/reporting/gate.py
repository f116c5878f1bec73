"""A gate's findings, and a release with what was decided about it.

In: gate results, releases. Out: rich tables and text. Must not know: the gate's rule.
"""

from __future__ import annotations

from tailorbird.domain.evidence import GateResult
from tailorbird.domain.release import Approval, Release
from tailorbird.foundations.canonical import short
from tailorbird.reporting.formatting import finding_text, moment
from tailorbird.reporting.tables import FittedTable, add_row, plain_table


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
    named |= {"evidence": release.dossier.test_evidence, "gate": release.dossier.gate}
    named |= {"template": content.chat_template, "tokenizer": content.tokenizer}
    facts += [(name, short(digest)) for name, digest in named.items() if digest]
    facts.append(("signed", f"by {release.signature.identity}, {moment(release.signature.at)}"))
    facts += [decision_text(approval) for approval in release.approvals]
    return "\n".join(f"{name:<9} {fact}" for name, fact in facts)


def decision_text(approval: Approval) -> tuple[str, str]:
    """What somebody decided: the verb, and who, in which role, when and why."""
    verb = "approved" if approval.decision == "approve" else "rejected"
    reason = f": {approval.reason}" if approval.reason else ""
    return verb, f"by {approval.identity} as {approval.role.value}, {moment(approval.signature.at)}{reason}"
