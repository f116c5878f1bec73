"""Inspection of a data file before an objective names it: format, encoding, separator, columns and their probable roles.

    columns → file_profile

In: a file. Out: an inspection, for a person to confirm. Must not know: objectives, snapshots.
"""

from tailorbird.data.inspection.file_profile import inspect_file

__all__ = ["inspect_file"]
