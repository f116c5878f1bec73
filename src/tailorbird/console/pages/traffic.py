"""Live traffic, the walk back from one answer, and readings of production."""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.console.rendering import PageContext
from tailorbird.domain.feedback import Severity
from tailorbird.reporting import explanation_markdown
from tailorbird.usecases.monitoring.explain import explain_request
from tailorbird.usecases.monitoring.traffic import list_signals, show_traffic

#: Windows on offer: minutes, and what they are called.
WINDOWS = ((15, "15 minutes"), (60, "1 hour"), (24 * 60, "24 hours"))


def show(visit: PageContext) -> Response:
    """What each release answered in a window, and the newest requests."""
    asked = visit.query.get("minutes", "60")
    minutes = next((number for number, _ in WINDOWS if str(number) == asked), 60)
    found = visit.ask(show_traffic, minutes=minutes)
    return visit.page("traffic.html", found=found, minutes=minutes, windows=WINDOWS, currency=visit.deps.prices.currency)


def explain(visit: PageContext) -> Response:
    """Everything that stands behind one answer."""
    found = visit.ask(explain_request, request=visit.named("request"))
    return visit.page("request.html", found=found, told=explanation_markdown(found))


def show_signals(visit: PageContext) -> Response:
    """The newest readings, those that ask for a person first."""
    signals = visit.ask(list_signals, limit=200).signals
    by_severity = [(severity, [signal for signal in signals if signal.severity is severity]) for severity in reversed(Severity)]
    return visit.page("signals.html", by_severity=by_severity, count=len(signals))
