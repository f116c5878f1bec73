"""Label review: two answers side by side, without names, and buttons to judge them.

In: a session; a form with a mark. Out: pages. Must not know: whose answer is whose, what judgements add up to.
"""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.access import Action
from tailorbird.console.visit import Visit, see_other
from tailorbird.lifecycle.control import judging


def show(visit: Visit) -> Response:
    """The next item for whoever may review; how the review stands for everybody."""
    digest = visit.named("digest")
    standing = visit.ask(judging.SHOW, digest=digest)
    shown = visit.ask(judging.NEXT, digest=digest) if standing.required and visit.may(Action.JUDGE) else None
    return visit.page("judging.html", shown=shown, standing=standing)


def judge(visit: Visit) -> Response:
    """Files a mark, and goes on to the next item."""
    digest, form = visit.named("digest"), visit.form
    fields = {name: form.get(name, "") for name in ("number", "mark", "reason")}
    visit.ask(judging.JUDGE, digest=digest, **fields)
    return see_other(f"/console/releases/{digest}/review")
