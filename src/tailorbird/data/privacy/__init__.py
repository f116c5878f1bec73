"""Personal data and secrets: found, counted, and dealt with as the objective's policy says.

    checksums → cards · national_ids · contacts · phones · secrets · dates → detecting → applying

In: texts, a policy. Out: the texts after the policy, and counts by kind. Must not know: files, splits, duplicates.
"""

from tailorbird.data.privacy.detector import OwnDetector
from tailorbird.data.privacy.redaction import RedactedText, Redaction

__all__ = ["OwnDetector", "RedactedText", "Redaction"]
