"""From an answer back to everything behind it, and a release in a few lines."""

from __future__ import annotations

from support.reporting import approval, explained, release, request
from tailorbird.reporting.documents import Explanation, explanation_markdown


def test_a_request_that_nothing_answered_says_so_and_no_more() -> None:
    bare = Explanation(request=request(release=None, status=404, outcome="refused", error="alias_unknown", prediction=None))
    shown = explanation_markdown(bare)
    assert "- refused (404) in 42 ms, 55 prompt tokens" in shown
    assert shown.endswith("## release\n\n- none: alias_unknown\n")
    assert shown.count("\n## ") == 2


def test_markdown_cannot_be_broken_by_what_somebody_wrote() -> None:
    nasty = explained().model_copy(update={"release": release(approval("fine\n## Approved by all\n<b>"))})
    assert "\n## Approved" not in explanation_markdown(nasty)
    assert "<b>" not in explanation_markdown(nasty)
