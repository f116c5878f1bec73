"""Personal data and secrets: detected, counted, and treated by the policy of the objective.

    checked_numbers · contact_data → personal_data

In: texts, a policy. Out: the texts after the policy, and counts by kind. Must not know: files, splits, duplicates.
"""

from tailorbird.data.privacy.personal_data import OwnDetector, RedactedText, Redaction

__all__ = ["OwnDetector", "RedactedText", "Redaction"]
