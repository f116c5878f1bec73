"""Label review: two answers side by side, without names, and buttons to judge them; models that judge beside people."""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.auth import Action
from tailorbird.console.rendering import PageContext, see_other
from tailorbird.usecases.base_models import list_models
from tailorbird.usecases.label_reviews import label_review
from tailorbird.usecases.label_reviews.label_review import next_shown, show_review
from tailorbird.usecases.label_reviews.llm_judges import ask_judge


def show(visit: PageContext) -> Response:
    """The next item for whoever may review; how the review stands for everybody."""
    digest = visit.named("digest")
    standing = visit.ask(show_review, digest=digest)
    shown = visit.ask(next_shown, digest=digest) if standing.required and visit.may(Action.JUDGE) else None
    return visit.page("judging.html", shown=shown, standing=standing, offered=_offered(visit) if standing.required else ())


def judge(visit: PageContext) -> Response:
    """Files a mark, and goes on to the next item."""
    digest, form = visit.named("digest"), visit.form
    fields = {name: form.get(name, "") for name in ("number", "mark", "reason")}
    visit.ask_form(label_review.judge, digest=digest, **fields)
    return see_other(f"/console/releases/{digest}/review")


def ask(visit: PageContext) -> Response:
    """Asks a model to judge beside people."""
    digest = visit.named("digest")
    visit.ask(ask_judge, digest=digest, model=visit.form.get("model", "").strip())
    return see_other(f"/console/releases/{digest}/review")


def _offered(visit: PageContext) -> tuple[str, ...]:
    """Models that whoever looks may ask."""
    if not visit.may(Action.ASK_JUDGE):
        return ()
    return tuple(model.name for model in visit.ask(list_models).models if model.role == "decoder")
