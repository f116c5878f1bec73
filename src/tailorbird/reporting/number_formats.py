"""Number formats for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

from tailorbird.domain.evidence import Comparison, Finding, Metric
from tailorbird.domain.ladder import Climb
from tailorbird.domain.plan import Estimate
from tailorbird.stats.comparison_sentences import difference_words

#: Stands where there is nothing to show.
NOTHING = "–"

_SIZES = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def human_count(number: float) -> str:
    """Three digits and a size: ``4.88 M`` for 4,884,480."""
    for size, sign in _SIZES:
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {sign}"
    return f"{number:.0f}"


def training_pace(tokens_per_second: float) -> tuple[str, ...]:
    """``300 tokens/s``; nothing of a training that does not count its tokens, as of an encoder."""
    return (f"{tokens_per_second:.0f} tokens/s",) if tokens_per_second else ()


def human_seconds(seconds: float) -> str:
    """``2.3 s``, ``4 min 10 s``, ``1 h 05 min``; times too short to show are ``<0.1 s``."""
    if 0 < seconds < 0.05:
        return "<0.1 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def making_time(climb: Climb) -> str:
    """``2.3 s``; ``reused, 2 min 41 s then`` where another run had trained it."""
    return f"reused, {human_seconds(climb.reused.seconds)} then" if climb.reused else human_seconds(climb.seconds)


def human_memory(gib: float) -> str:
    """``1.5 GiB``; ``<0.1 GiB`` rather than nothing."""
    return "<0.1 GiB" if 0 < gib < 0.05 else f"{gib:.1f} GiB"


def machine_memory(gib: float) -> str:
    """``8 GiB``; what is less than a few with its tenths."""
    return f"{gib:.0f} GiB" if gib >= 4 else human_memory(gib)


def process_memory(gib: float) -> str:
    """``2.5 GiB``; a dash in records of before it was told."""
    return human_memory(gib) if gib else NOTHING


def human_money(amount: float) -> str:
    """``0.002``, ``12.50``; amounts too small to show are ``<0.001``."""
    if 0 < amount < 0.0005:
        return "<0.001"
    return f"{amount:.{2 if amount >= 1 else 3}f}"


def moment(at: datetime) -> str:
    """``2026-03-01 12:00 UTC``."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def interval(value: float, low: float, high: float) -> str:
    """``0.912 [0.880, 0.936]``; the ends are rounded outwards, so that what is shown never says more than what was found."""
    decimals = 1 if high >= 10 else 3 if high >= 0.1 else 4
    return f"{value:.{decimals}f} [{_rounded(low, decimals, math.floor)}, {_rounded(high, decimals, math.ceil)}]"


def metric_text(metric: Metric | None) -> str:
    """A metric with its interval, or a dash where it is undefined."""
    return interval(metric.value, metric.low, metric.high) if metric else NOTHING


def finding_text(finding: Finding) -> str:
    """What was measured for a KPI or limit, with the interval that was judged, or a dash where nothing was."""
    if finding.value is None or finding.low is None or finding.high is None:
        return NOTHING
    return interval(finding.value, finding.low, finding.high)


def difference_text(found: Comparison | None) -> str:
    """A paired difference, its standing, and its interval: ``+0.500 better [+0.400, +0.600]``; of what could not be compared, why."""
    return NOTHING if found is None else difference_words(found)


def estimate_text(estimate: Estimate) -> str:
    """``2 min 00 s – 4 min 30 s`` or ``0.5 – 0.8 GiB``."""
    if estimate.unit == "s":
        return f"{human_seconds(estimate.low)} – {human_seconds(estimate.high)}"
    decimals = 1 if estimate.high >= 1 else 3
    if 0 < estimate.high < 0.0005:
        return f"<0.001 {estimate.unit}"
    return f"{estimate.low:.{decimals}f} – {estimate.high:.{decimals}f} {estimate.unit}"


def _rounded(value: float, decimals: int, direction: Callable[[float], int]) -> str:
    """Rounding to six more digits first keeps binary noise from pushing an end one step out."""
    return f"{direction(round(value * 10**decimals, 6)) / 10**decimals:.{decimals}f}"
