"""From an answer back to everything behind it, and a release in a few lines."""

from __future__ import annotations

from support.reporting import approval, explained, name_of, release, request
from tailorbird.reporting import Explanation, explanation, explanation_markdown, release_summary

TEXT = f"""\
request   req1 at 2026-03-01 12:30:05 UTC, key key1, acme/desk
          ok (200), answered 'refund' in 42 ms, 55 prompt tokens
release   {name_of(30)}
          lora on smollm2-135m (2a2a2a2a2a2a), now production
goal      Send each message on. (owner support, limited risk)
chosen    among lora r16
          lora r16 is the cheapest rung that passes on dev
gate      pass on test, look 1: recall[refund] is what it is
          recall[refund] 0.960 [0.935, 0.980] against 0.9: pass, 400 items
evidence  90 dev items, results kept as 636363636363, by twin 1
data      snapshot 2d2d2d2d2d2d: 1.2 k train, 90 dev, 400 test; 7 duplicates and 3 faulty rows left out
          from rows.csv (161616161616)
          rows.csv: written here, Apache-2.0
people    signed by ada, 2026-03-01 12:30 UTC
          approved by ben as approver, 2026-03-01 12:30 UTC: read the card
log          17 release.promoted by olga, 2026-03-01 12:30:05 UTC"""


def test_the_walk_in_words() -> None:
    assert explanation(explained()) == TEXT


def test_a_request_that_nothing_answered_says_so_and_no_more() -> None:
    bare = Explanation(request=request(release=None, status=404, outcome="refused", error="alias_unknown", prediction=None))
    assert explanation(bare).split("\n")[1:] == ["          refused (404) in 42 ms, 55 prompt tokens", "release   none: alias_unknown"]
    assert explanation_markdown(bare).count("\n## ") == 2


def test_the_walk_in_markdown_has_a_section_a_part() -> None:
    shown = explanation_markdown(explained())
    assert shown.startswith("# Request req1\n\n## request\n\n- req1 at")
    headings = [line for line in shown.split("\n") if line.startswith("## ")]
    assert headings == [f"## {part}" for part in ("request", "release", "goal", "chosen", "gate", "evidence", "data", "people", "log")]
    assert "- approved by ben as approver, 2026-03-01 12:30 UTC: read the card" in shown


def test_markdown_cannot_be_broken_by_what_somebody_wrote() -> None:
    nasty = explained().model_copy(update={"release": release(approval(reason="fine\n## Approved by all\n<b>"))})
    assert "\n## Approved" not in explanation_markdown(nasty)
    assert "<b>" not in explanation_markdown(nasty)


def test_a_release_in_a_few_lines() -> None:
    shown = release_summary(release(approval(), approval("cat", "reject", ""))).split("\n")
    assert shown[:4] == [
        f"release   {name_of(30)}",
        "state     production",
        "objective acme/desk (limited risk), run run1",
        "rung      lora on smollm2-135m",
    ]
    assert not any(line.startswith("weights") for line in shown)
    assert shown[-3:] == [
        "signed    by ada, 2026-03-01 12:30 UTC",
        "approved  by ben as approver, 2026-03-01 12:30 UTC: read the card",
        "rejected  by cat as approver, 2026-03-01 12:30 UTC",
    ]


def test_what_the_approvals_are_worth_stands_below_them() -> None:
    told = explained().model_copy(update={"remarks": ("the private keys of ada and ben lie in one workspace",)})
    before, after = explanation(told).split("approved by ben", 1)
    assert "lie in one workspace" in after.split("log  ")[0]
    assert "lie in one workspace" not in before
