"""Plan page: everything that the table of the command line tells, in one document that fetches nothing."""

from __future__ import annotations

import re

from support.reporting import plan
from tailorbird.domain.plan import Plan, Reason
from tailorbird.reporting.plan import plan_markdown
from tailorbird.reporting.tables import document_html


def plan_page(found: Plan, name: str) -> str:
    return document_html(plan_markdown(found, name))


def test_the_page_holds_the_whole_plan_and_fetches_nothing() -> None:
    page = plan_page(plan(), "desk")
    assert all(part in page for part in ("<h1>desk</h1>", "2 cores, 23 GiB, no GPU", "4.88 M", "rank 16 holds [the labels]"))
    assert not re.search(r"(src=|href=|url\(|@import)", page)
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page


def test_markup_in_names_and_reasons_stays_text() -> None:
    rung = plan().rungs[0].model_copy(update={"reasons": (Reason(rule="<i>r</i>", text="<b>x</b>", source="'\"&"),)})
    page = plan_page(plan().model_copy(update={"rungs": (rung,)}), "<script>alert(1)</script>")
    assert "<b>" not in page
    assert "<i>" not in page
    assert "<script" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
