"""Rows too poor to learn from: counted, and set aside where the policy says so.

In: rows, an objective's task and policy. Out: the rows to go on with; findings. Must not know: how rules work.
"""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.data.curating.counting import Tally
from tailorbird.data.quality import Quality
from tailorbird.data.reading import SourceRow
from tailorbird.domain.curation import QualityPolicy, RowFinding
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Task, TaskKind


def sift(rows: Sequence[SourceRow], task: Task, policy: QualityPolicy, tally: Tally) -> list[SourceRow]:
    """The rows that may stay. Raises DataInvalid when none are left."""
    quality = Quality(policy, answers=task.kind is TaskKind.GENERATE)
    kept: list[SourceRow] = []
    gone: list[Quarantined] = []
    for row in rows:
        broken = quality.broken(row.text, row.target)
        if not broken:
            kept.append(row)
            continue
        tally.quality.update(broken)
        dropped = quality.drops(broken)
        tally.findings += [
            RowFinding(file=row.place.file, line=row.line, code=f"quality.{rule.value}", action="drop" if rule is dropped else "reported")
            for rule in broken
        ]
        if dropped:
            reason = f"the row breaks the rule {dropped.value}"
            gone.append(Quarantined(file=row.place.file, line=row.line, code=f"quality_{dropped.value}", reason=reason))
        else:
            kept.append(row)
    tally.step("quality", len(rows), gone)
    tally.quarantined += gone
    if not kept:
        raise DataInvalid("no rows are left after curation", _most_frequent(tally), code="nothing_left")
    return kept


def _most_frequent(tally: Tally) -> str:
    reasons: dict[str, int] = {}
    for step in tally.flow:
        for code, count in step.reasons.items():
            reasons[code] = reasons.get(code, 0) + count
    if not reasons:
        return "bring rows"
    code = max(reasons, key=lambda name: reasons[name])
    return f"the most frequent reason is {code} ({reasons[code]:,} rows): soften `curation`, or bring other rows"
