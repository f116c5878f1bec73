"""Personal data in rows: counted, and dealt with as the policy says.

In: rows as read, an objective, detectors, a key. Out: the rows after the policy; findings. Must not know: how anything is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tailorbird.data.curating.counting import Tally
from tailorbird.data.privacy import Privacy, Treated
from tailorbird.data.reading import SourceRow
from tailorbird.domain.curation import PersonalKind, PrivacyAction, PrivacyPolicy, RowFinding
from tailorbird.domain.dataset import Quarantined
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import Task, TaskKind

#: Rows that are looked at together.
_AT_ONCE = 10_000
_CHANGING = (PrivacyAction.REDACT, PrivacyAction.PSEUDONYMISE)


def treat(rows: Sequence[SourceRow], task: Task, privacy: Privacy, tally: Tally) -> list[SourceRow]:
    """Texts, and answers where rows have answers, after the policy; rows that must go are put into the tally's quarantine.

    Raises DataInvalid when a kind is found for which the data set is to be refused.
    """
    kept: list[SourceRow] = []
    gone: list[Quarantined] = []
    changed = 0
    for row, parts in _treated(rows, task, privacy):
        if not any(part.counts for part in parts):
            kept.append(row)
            continue
        counts = _note(row, parts, privacy.policy, tally)
        if any(part.drop for part in parts):
            kinds = ", ".join(kind.value for kind in counts if privacy.policy.action(kind) is PrivacyAction.DROP)
            gone.append(
                Quarantined(file=row.place.file, line=row.line, code="personal_data", reason=f"the row holds personal data: {kinds}")
            )
            continue
        after = _rewritten(row, parts, counts, privacy.policy)
        changed += after is not row
        kept.append(after)
    _refuse(privacy.policy, tally)
    tally.step("personal data", len(rows), gone, changed=changed)
    tally.quarantined += gone
    return kept


def _treated(rows: Sequence[SourceRow], task: Task, privacy: Privacy) -> Iterator[tuple[SourceRow, list[Treated]]]:
    """Each row with its text, and its answer where rows have answers, after the policy."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        texts = privacy.treat([row.text for row in some])
        answers = privacy.treat([row.target for row in some]) if task.kind is TaskKind.GENERATE else None
        for place, row in enumerate(some):
            yield row, [texts[place]] if answers is None else [texts[place], answers[place]]


def _note(row: SourceRow, parts: Sequence[Treated], policy: PrivacyPolicy, tally: Tally) -> dict[PersonalKind, int]:
    counts: dict[PersonalKind, int] = {}
    for part in parts:
        for kind, count in part.counts.items():
            counts[kind] = counts.get(kind, 0) + count
    tally.personal_rows.update(counts.keys())
    tally.personal_found.update(counts)
    tally.findings += [
        RowFinding(file=row.place.file, line=row.line, code=f"privacy.{kind.value}", count=count, action=policy.action(kind).value)
        for kind, count in sorted(counts.items())
    ]
    return counts


def _rewritten(row: SourceRow, parts: Sequence[Treated], counts: dict[PersonalKind, int], policy: PrivacyPolicy) -> SourceRow:
    done = tuple(f"{policy.action(kind).value}:{kind.value}" for kind in sorted(counts) if policy.action(kind) in _CHANGING)
    if not done:
        return row
    target = parts[1].text if len(parts) > 1 else row.target
    return replace(row, text=parts[0].text, target=target, transforms=(*row.transforms, *done))


def _refuse(policy: PrivacyPolicy, tally: Tally) -> None:
    refused = [kind for kind in sorted(tally.personal_rows) if policy.action(kind) is PrivacyAction.REFUSE]
    if refused:
        counted = ", ".join(f"{kind.value} in {tally.personal_rows[kind]:,} rows" for kind in refused)
        first = next(finding for finding in tally.findings if finding.action == PrivacyAction.REFUSE)
        hint = f"take it out of the files (first in {first.file}, line {first.line}), or let `curation.privacy` redact or drop it"
        raise DataInvalid(f"the data hold what the objective refuses: {counted}", hint, code="personal_data_refused")
