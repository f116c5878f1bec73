"""A paired comparison in words.

In: a comparison. Out: a clause. Must not know: tables, pages, what follows from a standing.

The sign of a difference is that of the numbers, and which sign is better depends on the metric: so the word always stands beside it.
"""

from __future__ import annotations

from tailorbird.domain.evidence import Comparison, Standing


def standing_word(found: Comparison) -> str:
    """``better``, ``tie``, ``worse``, ``not proven``; ``not better`` where that much is proven, and by how much it is worse is open."""
    if found.standing is Standing.NOT_PROVEN and found.is_loss:
        return "not better"
    return found.standing.value.replace("_", " ")


def difference_words(found: Comparison) -> str:
    """``+0.350 better [+0.300, +0.400]``; what could not be compared says why."""
    if found.reason:
        return f"{standing_word(found)}: {found.reason}"
    return f"{found.difference:+.3f} {standing_word(found)} [{found.low:+.3f}, {found.high:+.3f}]"


def measured_words(found: Comparison) -> str:
    """``chrf +0.350 [+0.300, +0.400]``, for a sentence that says how the two stand: where less is better, so it says."""
    if found.reason:
        return found.reason
    less = ", less is better" if found.less_is_better else ""
    return f"{found.metric} {found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}]{less}"
