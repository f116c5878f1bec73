"""Label review: two answers side by side, without names, and buttons to judge them; models that judge beside people.

In: a session; a form with a mark. Out: pages. Must not know: whose answer is whose, what judgements add up to.
"""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.access import Action
from tailorbird.console.visit import Visit, see_other
from tailorbird.lifecycle.control import judging, looking


def show(visit: Visit) -> Response:
    """The next item for whoever may review; how the review stands for everybody."""
    digest = visit.named("digest")
    standing = visit.ask(judging.SHOW, digest=digest)
    shown = visit.ask(judging.NEXT, digest=digest) if standing.required and visit.may(Action.JUDGE) else None
    return visit.page("judging.html", shown=shown, standing=standing, offered=_offered(visit) if standing.required else ())


def judge(visit: Visit) -> Response:
    """Files a mark, and goes on to the next item."""
    digest, form = visit.named("digest"), visit.form
    fields = {name: form.get(name, "") for name in ("number", "mark", "reason")}
    visit.ask(judging.JUDGE, digest=digest, **fields)
    return see_other(f"/console/releases/{digest}/review")


def ask(visit: Visit) -> Response:
    """Asks a model to judge beside people."""
    digest = visit.named("digest")
    visit.ask(judging.ASK, digest=digest, model=visit.form.get("model", "").strip())
    return see_other(f"/console/releases/{digest}/review")


def _offered(visit: Visit) -> tuple[str, ...]:
    """Models that whoever looks may ask."""
    if not visit.may(Action.ASK_JUDGE):
        return ()
    return tuple(model.name for model in visit.ask(looking.MODELS).models if model.role == "decoder")
