"""The policy of an objective applied to its rows, and the report of what was done.

    treating (personal data) · sifting (quality) · protecting (evaluation sets) → reporting ← counting

In: rows as read, a policy. Out: rows to go on with, every finding, a report without any text. Must not know: how anything is found, splits'
shares, artifacts.
"""

from tailorbird.data.curation.report import NAMED_GROUPS, CurationOutcome, NearDuplicateGroups, groups_of, report_of
from tailorbird.data.curation.steps import CurationTally, ProtectedTexts, protected_texts, set_apart, sift, treat

__all__ = [
    "NAMED_GROUPS",
    "CurationOutcome",
    "CurationTally",
    "NearDuplicateGroups",
    "ProtectedTexts",
    "groups_of",
    "protected_texts",
    "report_of",
    "set_apart",
    "sift",
    "treat",
]
