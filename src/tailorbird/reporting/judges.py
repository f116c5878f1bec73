"""What a judge model found, in a sentence.

In: its result. Out: text. Must not know: how it was measured, who reads it.
"""

from __future__ import annotations

from tailorbird.domain.review import JudgeResult
from tailorbird.foundations.canonical import short
from tailorbird.reporting.formatting import interval


def judge_text(judge: JudgeResult) -> str:
    """Which model (name and digest), what it prefers, how far its own two orders agree, and what that is worth."""
    named = f"judge {judge.model}" + (f" ({short(judge.base)})" if judge.base else "")
    win = judge.win_rate
    if win.value is None or win.low is None or win.high is None or judge.agreed is None:
        return f"{named}: {judge.reason}"
    told = f"preferred the candidate's answers in {interval(win.value, win.low, win.high)} of {judge.judged} items"
    return f"{named}: {told}; both orders agreed on {judge.agreed:.0%}; {judge.reason}"
