"""What a worker could not do is left alone for a while, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import RunState
from tailorbird.processes import worker
from tailorbird.usecases import Progress

ONE, OTHER = (SimpleNamespace(id=name, tenant="acme", objective_name="desk", state=RunState.ACTIVE) for name in ("one", "other"))


def working(monkeypatch: pytest.MonkeyPatch, looks: Iterator[Any], fails: dict[str, Exception], told: list[str]) -> tuple[Any, list[str]]:
    """A worker that is given what ``looks`` say, and what it took up."""

    def waiting(limit: int) -> Any:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    taken = list[str]()

    def work_on(_parts: object, _actor: object, run: Any, _progress: object) -> Any:
        taken.append(run.id)
        if run.id in fails:
            raise fails[run.id]
        return SimpleNamespace(conclusion=None)

    system = SimpleNamespace(queue=SimpleNamespace(waiting=waiting))
    deps = SimpleNamespace(ledger=SimpleNamespace(system=lambda write: nullcontext(system)))
    monkeypatch.setattr(worker, "work_on", work_on)
    monkeypatch.setattr(worker, "act_as", lambda *_: None)
    monkeypatch.setattr(worker, "permit", lambda *_: None)
    return worker.StepWorker(cast(Any, deps), Progress(), told.append, once=True), taken


def test_a_run_that_failed_rests_and_another_is_taken_up(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Unavailable("the model cannot be fetched", "try again", code="model_unreachable")
    work, taken = working(monkeypatch, iter([[ONE], [ONE, OTHER], [ONE]]), {"one": away}, [])
    work.run()
    assert taken == ["one", "other"]


def test_a_defect_in_one_run_is_no_matter_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    told, words = list[str](), "a customer's words"
    looks: Iterator[Any] = iter([ValueError(words), [ONE, OTHER], []])
    work, taken = working(monkeypatch, looks, {"one": KeyError(words), "other": KeyError(words)}, told)
    work.run()  # the record cannot be read
    work.run()
    assert taken == ["one", "other"]
    assert "customer" not in "".join(told)
