"""Sentences for a paired comparison, and for how many more items would settle an open one."""

from __future__ import annotations

from tailorbird.domain.evidence import Comparison, Standing

#: Nobody collects more items than this to tell two candidates apart: what would take more stands on the line itself.
MOST_ITEMS = 1_000_000


def what_settles(items_needed: int | None, outcome: str = "settle it") -> str:
    """``410 more items would settle it``; that none would, beyond a million; empty where nothing is open or no number is known.

    ``outcome`` is what they would do if the value stayed as it is.
    """
    if not items_needed:
        return ""
    if items_needed > MOST_ITEMS:
        return f"it lies too near the line to settle: not with {MOST_ITEMS:,} more items"
    return f"{items_needed:,} more item{'s' if items_needed > 1 else ''} would {outcome}"


def settles_comparison(found: Comparison) -> str:
    """What would settle a comparison: nothing, where it is known that the upper one is not better: more items would only tell by how much
    it is worse."""
    if found.standing is Standing.NOT_PROVEN and found.is_loss:
        return "more items would only tell by how much it is worse"
    return what_settles(found.items_needed)


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
