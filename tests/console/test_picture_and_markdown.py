"""The ladder's geometry, and Markdown in which nothing acts."""

from __future__ import annotations

import html
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.console import run_named
from tailorbird.console.ladder_chart import ladder_chart_of
from tailorbird.console.markdown import markdown_html
from tailorbird.console.paging import Paging
from tailorbird.domain.ladder import RungKind
from tailorbird.usecases import Dependencies
from tailorbird.usecases.runs.reports import RunReport, report


@pytest.fixture(scope="module")
def climbed(house: Dependencies) -> RunReport:
    return report(house, "acme", run_named(house, "desk"))


def test_bars_lie_where_the_numbers_say(climbed: RunReport) -> None:
    picture = ladder_chart_of(climbed)
    assert picture is not None
    assert (picture.axis_low, picture.axis_high, picture.target_at) == (0.0, 1.0, 80.0)
    chosen = next(step for step in picture.steps if step.state == "chosen")
    assert chosen.climb is not None
    metric = chosen.climb.evidence.metrics["accuracy"]
    assert chosen.bar is not None
    assert chosen.bar.value == pytest.approx(100 * metric.value, abs=0.01)
    assert chosen.bar.low < chosen.bar.value < chosen.bar.high
    assert picture.floor is not None
    assert picture.floor.state == "floor"


def test_refused_rungs_keep_their_reasons_and_their_order(climbed: RunReport) -> None:
    assert climbed.ladder is not None
    picture = ladder_chart_of(climbed)
    assert picture is not None
    refused = [step for step in picture.steps if step.state == "refused"]
    assert len(refused) == len(climbed.ladder.refused)
    assert all(step.reason for step in refused)
    order = [list(RungKind).index(RungKind(step.name.split()[0])) for step in refused]
    assert order == sorted(order)


def test_a_climb_in_progress_shows_what_lies_ahead(climbed: RunReport) -> None:
    assert climbed.plan is not None
    picture = ladder_chart_of(climbed.model_copy(update={"ladder": None, "climbs": ()}))
    assert picture is not None
    ahead = [step.name for step in picture.steps if step.state == "ahead"]
    assert ahead == [f"{rung.rung.value} {rung.variant}" for rung in climbed.plan.rungs]
    assert ladder_chart_of(climbed.model_copy(update={"plan": None})) is None


def test_an_axis_beyond_one_keeps_everything_in_view(climbed: RunReport) -> None:
    kpi = climbed.objective.kpis[0].model_copy(update={"target": 2.5})
    goal = climbed.objective.model_copy(update={"kpis": (kpi,)})
    picture = ladder_chart_of(climbed.model_copy(update={"objective": goal}))
    assert picture is not None
    assert picture.axis_high == pytest.approx(2.75)
    assert 0 < picture.target_at < 100


def test_markdown_of_ours_is_read_as_meant() -> None:
    text = "---\nlicense: mit\n---\n\n# A & B\n\n**bold** `x<y` 1 &lt; 2\n\n- one\n- two\n"
    text += "\n| a | b |\n| --- | --- |\n| 1 \\| 2 | `c` |\n\n    code here\n"
    made = str(markdown_html(text))
    assert '<pre tabindex="0">license: mit</pre>' in made
    assert "<h3>A &amp; B</h3>" in made
    assert "<p><strong>bold</strong> <code>x&lt;y</code> 1 &lt; 2</p>" in made
    assert "<ul><li>one</li><li>two</li></ul>" in made
    assert '<th scope="col">a</th>' in made
    assert "<td>1 | 2</td><td><code>c</code></td>" in made
    assert '<pre tabindex="0">code here</pre>' in made


def test_a_table_without_a_head_names_its_rows() -> None:
    made = str(markdown_html("|  |  |\n| --- | --- |\n| goal | Route it |"))
    assert "<thead>" not in made
    assert '<th scope="row">goal</th><td>Route it</td>' in made


_PIECES = st.sampled_from(
    ["|", "`", "**", "# ", "- ", "\n", "\n\n", "---\n", "    ", "<script>", "&lt;b&gt;", "&#60;", "\\|", "{0}", "{x}", "a", '"', "'"]
)


@given(st.lists(_PIECES, max_size=40).map("".join))
def test_whatever_is_written_only_our_own_tags_come_out(text: str) -> None:
    made = str(markdown_html(text))
    tags = set(re.findall(r"<\s*/?\s*([a-zA-Z0-9]+)", made))
    assert tags <= {"p", "ul", "li", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "div", "pre", "code", "strong"}
    shown = html.unescape(re.sub(r"<[^>]*>", "", made))
    assert shown.count("script") == text.count("script")


@given(st.integers(0, 500), st.integers(0, 600), st.integers(1, 60))
def test_leafing_visits_every_entry_once(total: int, skip: int, size: int) -> None:
    whole = list(range(total))
    page = Paging.of({"skip": "0"}, total, size)
    seen = list(page.cut(whole))
    while page.older is not None:
        page = Paging.of({"skip": str(page.older)}, total, size)
        seen += page.cut(whole)
    assert seen == whole
    back = Paging.of({"skip": str(skip)}, total, size)
    assert (back.newer is None) is (skip == 0)


@pytest.mark.parametrize("asked", ["", "-1", "x", "1e9", "9" * 30, "²"])
def test_nonsense_asks_for_the_first_page(asked: str) -> None:
    assert Paging.of({"skip": asked}, 100, 10).skip == 0


def test_a_long_rule_that_is_none_is_read_at_once() -> None:
    started = time.process_time()
    markdown_html("| a |\n|" + "-" * 50_000 + "x")
    markdown_html("| a |\n|" + "| -" * 20_000 + "x")
    assert time.process_time() - started < 2
