"""The policy of an objective applied to its rows, and the report of what was done.

    treating (personal data) · sifting (quality) · protecting (evaluation sets) → reporting ← counting

In: rows as read, a policy. Out: rows to go on with, every finding, a report without any text. Must not know: how anything is found, splits'
shares, artifacts.
"""

from tailorbird.data.curating.counting import Tally
from tailorbird.data.curating.protecting import Protected, protected_texts, set_apart
from tailorbird.data.curating.reporting import NAMED_GROUPS, Groups, Outcome, groups_of, report_of
from tailorbird.data.curating.sifting import sift
from tailorbird.data.curating.treating import treat

__all__ = [
    "NAMED_GROUPS",
    "Groups",
    "Outcome",
    "Protected",
    "Tally",
    "groups_of",
    "protected_texts",
    "report_of",
    "set_apart",
    "sift",
    "treat",
]
