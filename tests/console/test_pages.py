"""Every page, for somebody who only looks."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from support.console import NASTY, Reader, release_of, request_id, rollout, run_named
from tailorbird.console.pages import _PAGES
from tailorbird.console.web import filled
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.label_review import Bounded, ReviewerRecord, ReviewResult
from tailorbird.domain.run import Failure, RunState
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.label_review import ReviewState, ShownItem


class Outline(HTMLParser):
    """What must hold of any page of ours: nesting, one h1, landmarks, labels, heads of tables."""

    VOID = frozenset({"meta", "link", "input", "img", "br", "rect", "line"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.labelled: set[str] = set()
        self.fields: list[str] = []
        self.problems: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.problems += [f"{tag} {name}" for name in found if name.startswith("on") or name == "style"]
        if tag == "script" and "src" not in found:
            self.problems.append("inline script")
        if "id" in found:
            self.ids.append(found["id"] or "")
        if tag == "label" and found.get("for"):
            self.labelled.add(found["for"] or "")
        if tag in ("input", "textarea") and found.get("type") != "hidden" and "label" not in self.open:
            self.fields.append(found.get("id") or "?")
        if tag == "th" and "scope" not in found:
            self.problems.append("th without scope")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")


def check(html: str) -> None:
    outline = Outline(html)
    assert outline.problems == []
    assert outline.open == []
    assert outline.seen.count("h1") == outline.seen.count("main") == 1
    assert len(set(outline.ids)) == len(outline.ids)
    assert set(outline.fields) <= outline.labelled
    assert NASTY not in html
    tables = re.findall(r"<table>\s*(<caption>)?", re.sub(r'<(section) class="card">.*?</\1>', "", html, flags=re.S))
    assert all(tables)
    assert not re.search(r"(href|src|action)=\"(?!/console|#)", html)


def paths(deps: Dependencies) -> list[str]:
    release = release_of(deps).removeprefix("sha256:")
    named = {
        "{run}": run_named(deps, "desk"),
        "{digest}": release,
        "{request}": request_id(0),
        "{alias}": "desk",
        "{rollout}": rollout(deps).id,
        "{decision}": "hold",
        "{tenant}": "acme",
    }
    found = [path for method, path, _ in _PAGES if method == "GET"]
    for name, value in named.items():
        found = [path.replace(name, value) for path in found]
    return ["/console" + path for path in found if "{" not in path]


def test_every_page_answers_and_holds_together(viewer: Reader) -> None:
    """Confirmations answer 409 where the move is not possible now: with a page as well."""
    looked = 0
    for path in paths(viewer.deps):
        answer = viewer.get(path)
        may_be = (200, 409) if "/aliases/" in path or path.endswith(("promote", "stage", "drill", "/rollout")) else (200,)
        assert answer.status_code in ((403,) if path.endswith("/reviews") else may_be), path
        if path.endswith("/evidence"):
            assert answer.headers["content-disposition"].startswith("attachment")
            assert "The gate" in answer.text
        elif not path.endswith("/progress"):
            check(answer.text)
        looked += 1
    assert looked == len(paths(viewer.deps))


def test_a_rollout_shows_its_guards_and_what_may_be_decided(viewer: Reader) -> None:
    html = viewer.get(f"/console/rollouts/{rollout(viewer.deps).id}").text
    assert all(guard in html for guard in ("errors", "latency", "feedback", ">Difference<"))
    assert "Take it back" not in html, "a viewer decides nothing"
    operator = Reader(viewer.deps)
    assert operator.log_in("operator").status_code == 303
    assert "Take it back" in operator.get(f"/console/rollouts/{rollout(viewer.deps).id}").text


def test_answers_that_wait_are_for_reviewers(viewer: Reader) -> None:
    reviewer = Reader(viewer.deps)
    assert reviewer.log_in("reviewer").status_code == 303
    html = reviewer.get("/console/reviews").text
    check(html)
    assert request_id(0)[-12:] in html
    assert "not kept" in html


def test_what_a_person_wrote_is_text_and_nothing_else(viewer: Reader) -> None:
    html = viewer.get(f"/console/runs/{run_named(viewer.deps, 'triage')}").text
    assert "as good as people &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in html
    assert "&lt;script&gt;" in viewer.get("/console/signals").text


def test_a_run_in_progress_is_shown_with_and_without_scripts(viewer: Reader) -> None:
    run = run_named(viewer.deps, "triage")
    html = viewer.get(f"/console/runs/{run}").text
    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in html
    assert "training step 12 of 40" in html
    assert "0.8125" in html
    assert "worker-7:41" in html
    fragment = viewer.get(f"/console/runs/{run}/progress").text
    assert f'data-poll="/console/runs/{run}/progress"' in fragment
    assert "480 of 1,600" in fragment
    assert "<html" not in fragment


def looking(deps: Dependencies) -> Reader:
    """Somebody who only looks, at a workspace that may be changed."""
    reader = Reader(deps)
    assert reader.log_in("viewer").status_code == 303
    return reader


def test_a_run_that_failed_says_what_happened_and_what_to_do(deps: Dependencies) -> None:
    viewer = looking(deps)
    run = run_named(deps, "triage")
    with deps.ledger.work("acme") as work:
        (step,) = work.steps.of(run)
        work.steps.fail(step, Failure(code="disk_full", message="no space is left for the workspace", hint="free some space"))
        work.runs.set_state(run, RunState.FAILED)
    for path in (f"/console/runs/{run}", f"/console/runs/{run}/progress"):
        html = viewer.get(path).text
        for words in ("disk_full", "no space is left for the workspace", "free some space"):
            assert words in html


def test_traffic_counts_by_window_and_leads_to_explanations(viewer: Reader) -> None:
    hour = viewer.get("/console/traffic?minutes=60").text
    quarter = viewer.get("/console/traffic?minutes=15").text
    assert '<td class="number">15</td>' in quarter
    assert '<td class="number">15</td>' not in hour
    assert f'href="/console/requests/{request_id(0)}"' in hour
    assert viewer.get("/console/traffic?minutes=nonsense").status_code == 200
    told = viewer.get(f"/console/requests/{request_id(1)}").text
    assert release_of(viewer.deps) in told
    assert "signed by author" in told


def test_the_log_is_leafed_through_filtered_and_verified(viewer: Reader) -> None:
    digest = release_of(viewer.deps)
    html = viewer.get("/console/audit").text
    assert "identity.added" in html
    assert "at size" in html
    about = viewer.get(f"/console/audit?subject={digest}").text
    assert "release.drafted" in about or "release.gated" in about or "release." in about
    assert "identity.added" not in about
    assert "release.gated" in viewer.get(f"/console/audit?subject={digest[7:19]}").text, "a digest as pages show it"
    assert "Nothing here" in viewer.get(f"/console/audit?subject={digest[7:19]}&before=1").text
    assert "Nothing here" in viewer.get("/console/audit?subject=ffffffff").text
    before = viewer.get("/console/audit?before=3").text
    assert 'class="number">2</th>' in before
    assert 'class="number">3</th>' not in before
    assert "The log is intact" in viewer.post("/console/audit/verify").text


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/console/runs/none", 404, "run_missing"),
        ("/console/releases/ffff", 404, "release_missing"),
        ("/console/releases/no-digest", 400, "field_invalid"),
        ("/console/requests/none", 404, "not_found"),
        ("/console/audit?before=x", 400, "field_invalid"),
        ("/console/nothing/here", 404, "not_found"),
    ],
)
def test_errors_are_pages_that_say_what_to_do(viewer: Reader, path: str, status: int, code: str) -> None:
    answer = viewer.get(path)
    assert answer.status_code == status
    assert f">{code}<" in answer.text
    assert "What to do:" in answer.text
    check(answer.text)


def test_every_answer_keeps_to_itself(viewer: Reader) -> None:
    for path in ("/console", "/console/login", "/console/nothing", f"/console/releases/{release_of(viewer.deps)[7:]}"):
        headers = viewer.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_files_are_kept_and_change_their_address(viewer: Reader) -> None:
    html = Reader(viewer.deps).get("/console/login").text
    addresses = re.findall(r'(?:href|src)="(/console/static/[^"]+)"', html)
    assert len(set(addresses)) == 3
    for address in addresses:
        answer = Reader(viewer.deps).get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_review_shows_two_answers_without_names(viewer: Reader) -> None:
    result = ReviewResult(
        asked=2,
        missing=1,
        reviewers=(ReviewerRecord(reviewer="rita", judged=2, skipped=0, left_share=1.0, consistency=0.5, flagged="chose left"),),
        win_rate=Bounded(value=0.5, low=0.2, high=0.8),
        agreement=Bounded(value=0.4, low=0.1, high=0.7),
        verdict=Verdict.INCONCLUSIVE,
        reason="1 reviewer still to judge all 2 items",
    )
    digest = release_of(viewer.deps)
    standing = ReviewState(release=digest, required=True, result=result, against="release x, which answers now")
    shown = ShownItem(
        release=digest, instruction="Classify.", number=1, text=NASTY, left="refund", right=f"login {NASTY}", judged=0, asked=2
    )
    actor = act_as(viewer.deps, "acme", "reviewer")
    for one in (shown, shown.model_copy(update={"number": 0, "judged": 2}), None):
        values = {"actor": actor, "path": "/console/releases", "shown": one, "standing": standing}
        html = bytes(filled("judging.html", values).body).decode()
        check(html)
        assert "which answers now" not in html
        assert ("Left is better" in html) is (one is shown)
        assert ("chose left" in html) is (one is not shown)
