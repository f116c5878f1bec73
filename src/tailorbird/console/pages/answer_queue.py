"""Answers that wait for people, one at a time."""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.console.rendering import PageContext, see_other
from tailorbird.usecases.feedback import list_reviews, settle_review


def show(visit: PageContext) -> Response:
    """The oldest answers that wait."""
    return visit.page("reviews.html", queue=visit.ask(list_reviews, limit=20))


def settle(visit: PageContext) -> Response:
    """Files a label."""
    visit.ask(settle_review, request=visit.named("request"), label=visit.form.get("label", ""))
    return see_other("/console/reviews")
