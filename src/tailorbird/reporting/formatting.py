"""Numbers as people read them.

In: counts, seconds, shares. Out: short strings. Must not know: what they are of.
"""

from __future__ import annotations

from tailorbird.domain.evidence import Comparison, Metric
from tailorbird.domain.plan import Estimate

_THOUSAND = 1000


def human_count(number: float) -> str:
    """``4.9 M`` for 4,884,480."""
    for size, sign in ((_THOUSAND**3, " G"), (_THOUSAND**2, " M"), (_THOUSAND, " k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{sign}"
    return f"{number:.0f}"


def human_seconds(seconds: float) -> str:
    """``2.3 s``, ``4 min 10 s``, ``1 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def interval(value: float, low: float, high: float) -> str:
    """``0.912 [0.880, 0.936]``."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def metric_text(metric: Metric | None) -> str:
    """A metric with its interval, or a dash where it is undefined."""
    return interval(metric.value, metric.low, metric.high) if metric else "–"


def difference_text(found: Comparison | None) -> str:
    """A paired difference with its interval and standing."""
    if found is None:
        return "–"
    return f"{found.difference:+.3f} [{found.low:+.3f}, {found.high:+.3f}] {found.standing.value.replace('_', ' ')}"


def estimate_text(estimate: Estimate) -> str:
    """``2 min 00 s – 4 min 30 s`` or ``0.5–0.8 GiB``."""
    if estimate.unit == "s":
        return f"{human_seconds(estimate.low)} – {human_seconds(estimate.high)}"
    return f"{estimate.low:.2g}–{estimate.high:.2g} {estimate.unit}"
