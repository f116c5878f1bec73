"""The policy of an objective applied to its rows, and the report of what was done.

    treating (personal data) · sifting (quality) · protecting (evaluation sets) → reporting ← counting

In: rows as read, a policy. Out: rows to go on with, every finding, a report without any text. Must not know: how anything is found, splits'
shares, artifacts.
"""

from tailorbird.data.curating.counting import Tally
from tailorbird.data.curating.protecting import Protected, protected_texts, set_apart
from tailorbird.data.curating.reporting import Outcome, report_of
from tailorbird.data.curating.sifting import sift
from tailorbird.data.curating.treating import treat

__all__ = ["Outcome", "Protected", "Tally", "protected_texts", "report_of", "set_apart", "sift", "treat"]
