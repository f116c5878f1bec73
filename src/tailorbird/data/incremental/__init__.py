"""Incremental builds: work for the appended rows only, and the same snapshot as a full build.

    conditions · appended_rows → index_merge → new_row_splits → report_merge · stored_rows → incremental_build; state ← state_writer

In: a request, and the saved state of the last build (numbers and digests, no word of a text). Out: what ``build_snapshot`` would give, or
None where a full build is needed. Must not know: how rows are read, compared or placed.
"""

from tailorbird.data.incremental.incremental_build import extend_snapshot
from tailorbird.data.incremental.state_writer import StateWriter

__all__ = ["StateWriter", "extend_snapshot"]
