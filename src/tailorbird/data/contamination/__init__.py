"""Texts that stand inside others: a test question quoted in a training document must not be learned.

    overlap → protecting

In: texts. Out: pairs that overlap; rows that repeat a protected text. Must not know: files, splits' shares.
"""

from tailorbird.data.contamination.overlap import SCHEME, overlapping

__all__ = ["SCHEME", "overlapping"]
