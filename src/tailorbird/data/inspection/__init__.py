"""A file looked at before an objective names it: format, encoding, separator, columns, and what they seem to be for.

In: a file. Out: an inspection, for a person to confirm. Must not know: objectives, snapshots.
"""

from tailorbird.data.inspection.file_profile import inspect

__all__ = ["inspect"]
