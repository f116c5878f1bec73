"""Answers that wait for people, one at a time.

In: a session. Out: pages. Must not know: why an answer is in the queue.
"""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.console.visit import Visit, see_other
from tailorbird.lifecycle.control import feedback


def show(visit: Visit) -> Response:
    """The oldest answers that wait."""
    return visit.page("reviews.html", queue=visit.ask(feedback.QUEUE, limit=20))


def settle(visit: Visit) -> Response:
    """Files a label."""
    visit.ask(feedback.SETTLE, request=visit.named("request"), label=visit.form.get("label", ""))
    return see_other("/console/reviews")
