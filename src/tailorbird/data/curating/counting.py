"""What curation counts while it goes.

In: findings, rows that go. Out: the same, by kind and by step. Must not know: texts, policies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tailorbird.domain.curation import FlowStep, PersonalKind, QualityRule, RowFinding
from tailorbird.domain.dataset import Quarantined


@dataclass
class Tally:
    """Everything counted so far. ``personal_rows`` are rows with a kind, ``personal_found`` its occurrences."""

    flow: list[FlowStep] = field(default_factory=list)
    findings: list[RowFinding] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    personal_rows: Counter[PersonalKind] = field(default_factory=Counter)
    personal_found: Counter[PersonalKind] = field(default_factory=Counter)
    quality: Counter[QualityRule] = field(default_factory=Counter)

    def step(self, name: str, before: int, gone: Sequence[Quarantined], *, changed: int = 0, repeated: int = 0) -> None:
        """A step that ``gone`` went in, and ``repeated`` exact copies."""
        reasons = dict(sorted(Counter(entry.code for entry in gone).items())) | ({"exact_duplicate": repeated} if repeated else {})
        self.flow.append(FlowStep(name=name, before=before, after=before - len(gone) - repeated, changed=changed, reasons=reasons))
