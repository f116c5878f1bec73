"""Words are taken out of what serving keeps, on both databases: those of the requests that are named, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

import support.ledger_samples as sample
from support.ledger_samples import digest
from tailorbird.domain.deployment import FORGOTTEN
from tailorbird.domain.feedback import FeedbackKind
from tailorbird.ledger import open_ledger

LABEL = {"kind": FeedbackKind.LABEL, "value": "their words"}


@pytest.fixture
def served(ledger):
    """Six requests with words, a label and a place in the queue each, in two tenants."""
    for tenant in ("acme", "globex"):
        with ledger.work(tenant) as work:
            work.requests.add([sample.request(tenant, n).model_copy(update={"unit": f"unit-{n % 2}"}) for n in range(6)])
            work.contents.add([sample.content(tenant).model_copy(update={"request": f"request-{n}"}) for n in range(6)])
            work.reviews.add([sample.review(tenant, f"request-{n}") for n in range(6)])
            for n in range(6):
                work.feedback.put(sample.feedback(tenant).model_copy(update={"request": f"request-{n}", **LABEL}))
                work.feedback.put(sample.feedback(tenant).model_copy(update={"request": f"request-{n}"}))
    return ledger


def test_a_request_keeps_what_it_used_and_loses_whose_it_was(served):
    with served.work("acme") as work:
        assert work.requests.forget({"request-1", "unknown"}) == 1
        before = sample.request("acme", 1)
        assert work.requests.get("request-1") == before.model_copy(update={"unit": FORGOTTEN, "sketch": "", "prediction": None})
        assert work.requests.get("request-2").unit == "unit-0"
    with served.work("globex", write=False) as work:
        assert work.requests.get("request-1").unit == "unit-1"


def test_kept_words_are_read_page_by_page_and_deleted(served):
    with served.work("acme") as work:
        first = work.contents.page("", 4)
        assert [one.request for one in first] == [f"request-{n}" for n in range(4)]
        assert [one.request for one in work.contents.page(first[-1].request, 4)] == ["request-4", "request-5"]
        assert work.contents.forget({"request-0", "request-4", "unknown"}) == 2
        assert [one.request for one in work.contents.page("", 9)] == [f"request-{n}" for n in (1, 2, 3, 5)]
    with served.work("globex", write=False) as work:
        assert len(work.contents.page("", 9)) == 6


def test_labels_are_emptied_and_marks_stay(served):
    with served.work("acme") as work:
        assert [said.request for said in work.feedback.labels("request-3", 1)] == ["request-4"]
        assert work.feedback.forget({"request-3", "unknown"}) == ("request-3",)
        assert work.feedback.forget({"request-3"}) == ()
        assert sorted((said.kind.value, said.value, said.score) for said in work.feedback.of("request-3")) == [
            ("label", "", 1.0),
            ("thumb", "up", 1.0),
        ]
        assert {said.value for said in work.feedback.labels("", 9)} == {"", "their words"}
        assert work.feedback.count({digest("release")}) == 12
        assert work.feedback.count({digest("another")}) == 0


def test_nothing_that_was_deleted_is_left_in_the_file(tmp_path: Path, fresh_sqlite):
    ledger = open_ledger(fresh_sqlite(tmp_path))
    with ledger.work("acme") as work:
        work.requests.add([sample.request("acme", 1)])
        work.contents.add([sample.content("acme").model_copy(update={"text": "SENTINEL"})])
    ledger.flush()
    assert _holds(tmp_path, b"SENTINEL")
    with ledger.work("acme") as work:
        work.contents.forget({"request-1"})
    ledger.flush(scrub=True)
    assert not _holds(tmp_path, b"SENTINEL")
    ledger.close()


def _holds(folder: Path, words: bytes) -> bool:
    return any(words in path.read_bytes() for path in folder.iterdir())
