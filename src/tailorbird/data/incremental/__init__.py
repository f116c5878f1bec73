"""Rows that are appended to files which were curated before: their own work only, and the very same snapshot.

    conditions · growth → newcomers → joining → placing → grouping → writing → extending; state ← keeping

In: a request, and what was kept of the last curation (numbers and digests, no word of a text). Out: what ``build_snapshot`` would give, or
None where it has to be built from all rows. Must not know: how rows are read, compared or placed.
"""

from tailorbird.data.incremental.incremental_build import extend
from tailorbird.data.incremental.state_writer import StateWriter

__all__ = ["StateWriter", "extend"]
