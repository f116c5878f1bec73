"""Inspection of a data file before an objective names it: format, encoding, separator, columns and their probable roles.

    column_names → columns → file_profile
    file_texts   folder_files

In: a file. Out: an inspection, for a person to confirm; all texts of a file whose columns nobody has named. Must not know: objectives,
snapshots.
"""

from tailorbird.data.inspection.file_profile import FolderFiles, beside, folder_files, inspect_file
from tailorbird.data.inspection.file_texts import file_texts

__all__ = ["FolderFiles", "beside", "file_texts", "folder_files", "inspect_file"]
