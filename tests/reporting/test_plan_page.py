"""Plan page: everything that the table of the command line tells, in one document that fetches nothing."""

from __future__ import annotations

import re

from support.reporting import plan
from tailorbird.domain.plan import Estimate, Plan, PlannedFloor, PlannedTraffic, Reason
from tailorbird.reporting.plan import plan_markdown
from tailorbird.reporting.tables import document_html


def plan_page(found: Plan, name: str) -> str:
    return document_html(plan_markdown(found, name))


def test_the_page_holds_the_whole_plan_and_fetches_nothing() -> None:
    page = plan_page(plan(), "desk")
    for expected in (
        "<h1>desk</h1>",
        "2 cores, 23 GiB, no GPU",
        "4.88 M",
        "2 min 00 s – 4 min 30 s",
        "1.2 – 2.1 GiB",
        "rank 16 holds [the labels]",
        "rank: DESIGN §5",
        "full: does not fit",
        "dev: accuracy ≥ 0.9 is proven by 0.956 or more on 90 items",
        "test: recall[rare] ≥ 0.9 cannot be proven with 4 items",
    ):
        assert expected in page
    assert "Traffic" not in page
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


def test_rows_have_a_cell_for_each_head() -> None:
    estimate = Estimate(low=1, likely=2, high=3, unit="s")
    why = Reason(rule="floor", text="words", source="here")
    floor = PlannedFloor(role="reference", reason=why, time=estimate, memory=estimate, money=estimate)
    traffic = PlannedTraffic(per_month=1000, horizon_months=12, assumed=True)
    for found in (plan(), plan().model_copy(update={"traffic": traffic})):
        page = plan_page(found.model_copy(update={"floor": floor}), "desk")
        rows = re.findall(r"<tr>.*?</tr>", page, re.S)
        assert [len(re.findall("<t[hd]", row)) for row in rows] == [len(re.findall("<th>", page))] * 3
    assert "1,000 requests a month over 12 months" in page
    assert "Rules of the tier" not in page
