"""What a worker could not do is left alone for a while, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tailorbird.domain.errors import Unavailable
from tailorbird.domain.label_review import ModelReview
from tailorbird.processes import worker
from tailorbird.usecases import Progress

ONE, OTHER = (f"sha256:{letter * 64}" for letter in "ab")


def test_a_judge_that_failed_on_one_release_is_asked_about_another(monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    reviews = {release: ModelReview(release=release, model="m", asked_by="ann", asked_at=at, bar=0.4) for release in (ONE, OTHER)}
    looks = iter([[ONE], [ONE, OTHER], [ONE]])
    queue = SimpleNamespace(waiting=lambda limit: [], judging=lambda limit: [("acme", reviews[release]) for release in next(looks)])
    deps = SimpleNamespace(ledger=SimpleNamespace(system=lambda write: nullcontext(SimpleNamespace(queue=queue))))
    asked = list[str]()

    def hold(_parts: object, _actor: object, review: ModelReview, _progress: object) -> None:
        asked.append(review.release)
        if review.release == ONE:
            raise Unavailable("the model cannot be fetched", "try again", code="model_unreachable")

    monkeypatch.setattr(worker, "hold", hold)
    monkeypatch.setattr(worker, "act_as", lambda *_: None)
    monkeypatch.setattr(worker, "permit", lambda *_: None)
    worker.StepWorker(cast(Any, deps), Progress(), lambda _: None, once=True).run()
    assert asked == [ONE, OTHER]


def test_a_defect_in_one_job_is_no_matter_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    reviews = [("acme", ModelReview(release=release, model="m", asked_by="ann", asked_at=at, bar=0.4)) for release in (ONE, OTHER)]
    looks: Iterator[Any] = iter([ValueError("a customer's words"), reviews, []])

    def judging(limit: int) -> Any:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    queue = SimpleNamespace(waiting=lambda limit: [], judging=judging)
    deps = SimpleNamespace(ledger=SimpleNamespace(system=lambda write: nullcontext(SimpleNamespace(queue=queue))))
    asked, told = list[str](), list[str]()

    def hold(_parts: object, _actor: object, review: ModelReview, _progress: object) -> None:
        asked.append(review.release)
        raise KeyError("a customer's words")

    monkeypatch.setattr(worker, "hold", hold)
    monkeypatch.setattr(worker, "act_as", lambda *_: None)
    monkeypatch.setattr(worker, "permit", lambda *_: None)
    work = worker.StepWorker(cast(Any, deps), Progress(), told.append, once=True)
    work.run()  # the record cannot be read
    work.run()
    assert asked == [ONE, OTHER]
    assert "customer" not in "".join(told)
