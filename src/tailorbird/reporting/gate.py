"""A gate's findings, and a release with what was decided about it.

In: gate results, releases. Out: rich tables and text. Must not know: the gate's rule.
"""

from __future__ import annotations

from rich.table import Table

from tailorbird.domain.evidence import Finding, GateResult
from tailorbird.domain.release import Release
from tailorbird.foundations.canonical import short
from tailorbird.reporting.formatting import interval


def gate_table(gate: GateResult) -> Table:
    """One row a KPI or limit: the bound, what was measured with its interval, the verdict and its reason."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("what", "bound", "measured", "items", "verdict", "reason"):
        table.add_column(name, overflow="fold")
    for finding in gate.findings:
        table.add_row(finding.name, f"{finding.bound:g}", _measured(finding), str(finding.n), finding.verdict.value, finding.reason)
    return table


def _measured(finding: Finding) -> str:
    if finding.value is None:
        return "–"
    if finding.low is None or finding.high is None:
        return f"{finding.value:.3f}"
    return interval(finding.value, finding.low, finding.high)


def release_summary(release: Release) -> str:
    """A release in a few lines: what it is, by digest, and who decided what."""
    content = release.content
    lines = [
        f"release   {release.digest}",
        f"state     {release.state.value}",
        f"objective {content.tenant}/{content.objective_name} ({content.risk.value} risk), run {content.run}",
        f"rung      {content.rung.value} on {content.base_model_name}",
    ]
    named = {"base": content.base_model, "adapter": content.adapter, "weights": content.weights, "data": content.snapshot}
    named |= {"evidence": content.test_evidence, "gate": content.gate, "template": content.chat_template, "tokenizer": content.tokenizer}
    lines += [f"{name:<9} {short(digest)}" for name, digest in named.items() if digest]
    lines.append(f"signed by {release.signature.identity} ({release.signature.at:%Y-%m-%d %H:%M} UTC)")
    for approval in release.approvals:
        reason = f": {approval.reason}" if approval.reason else ""
        lines.append(f"{approval.decision}d by {approval.identity} as {approval.role.value}{reason}".replace("rejectd", "rejected"))
    return "\n".join(lines)
