"""Number formats of the engine as sentences: what each loses, how fast it answers, what it takes."""

from __future__ import annotations

from collections.abc import Iterator

from tailorbird.domain.evidence import Comparison
from tailorbird.domain.number_format import FormatMeasurement, FormatReading
from tailorbird.domain.plan import Plan
from tailorbird.reporting.number_formats import metric_text, moment


def format_lines(plan: Plan) -> list[str]:
    """What is known of number formats for the plan's objective: a sentence for each measurement and each format; none where nothing is."""
    told = [line for one in plan.formats for line in _measured(one)]
    rule = "what is measured in a format is served in it: set another before adapt, and adapt again what was measured in this one"
    return [*told, *([rule] if told else [])]


def _measured(one: FormatMeasurement) -> Iterator[str]:
    beside = "; beside other work, so that its times say little" if one.loaded else ""
    yield f"number formats of {one.label}: {one.rows} dev rows, {moment(one.at)}, {one.machine}{beside}"
    for reading in one.readings:
        computed = f" ({reading.fingerprint.split(' ', 3)[-1]})" if reading.fingerprint else ""
        yield f"{reading.format.text}{computed}: {_told(reading)}"


def _told(reading: FormatReading) -> str:
    if reading.score is None:
        return f"not here: {reading.refused}"
    lost = f"; {_difference(reading.difference, reading.differ)}" if reading.difference else ""
    pace = (
        f"{reading.alone_ms:.1f} ms a request alone, {reading.per_second:.0f} rows a second together; weights {reading.weights_mb:.0f} MiB"
    )
    return f"{reading.score.name} {metric_text(reading.score)}{lost}; {pace}"


def _difference(found: Comparison, differ: int) -> str:
    """In the unit of the metric, with the number of rows that got another answer."""
    interval = f"{found.difference:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
    return f"{interval} against the one that is set, {_judged(found)}; answers that differ: {differ}"


def _judged(found: Comparison) -> str:
    """What the interval says of a loss: the margin is what the objective calls one."""
    worst, best = (-found.high, -found.low) if found.less_is_better else (found.low, found.high)
    if found.reason:
        return f"which is open: {found.reason}"
    if worst >= -found.margin:
        return f"no loss of more than {found.margin:g}"
    if best < -found.margin:
        return f"a loss of more than {found.margin:g}"
    needed = f", which about {found.items_needed:,} more rows would tell" if found.items_needed else ""
    return f"a loss of more than {found.margin:g} is not ruled out{needed}"
