"""One look at what is in production: quiet when nothing changed, told when something did, and told once."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from support.doubles import FixedClock, MemoryNotifier
from support.ledger_samples import request as a_request
from support.usecases import write_objective
from tailorbird.data import load_rows
from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.errors import Corrupt, Forbidden
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind, Severity, Signal
from tailorbird.monitoring.sketch import sketch
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.feedback import give_feedback
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.monitoring import watch
from tailorbird.usecases.registry import perform
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.releases.load_verification import record_refusal
from tailorbird.usecases.runs import submit as climbing

Answer = Callable[[list[str]], None]
#: A tier that asks for no rollout.
MINIMAL = {"goal": "Route messages.", "owner": "support", "risk": "minimal"}


def answered(deps: Dependencies, release: str, texts: list[str], **changes: object) -> None:
    """Adds rows of a release that answered ``texts``."""
    now = deps.clock.now()
    rows = [
        a_request("acme", number).model_copy(
            update={
                "id": f"r{release[-8:]}{number}",
                "alias": "acme/desk",
                "release": release,
                "prediction": text.split()[-1],
                "latency_ms": 0.0,
                "cost": 0.0,
                "prompt_tokens": 10,
                "completion_tokens": 1,
            }
            | {"at": now - timedelta(seconds=number + 1), "characters": len(text), "sketch": sketch(text), "confidence": None}
            | changes
        )
        for number, text in enumerate(texts)
    ]
    with deps.ledger.work("acme") as work:
        work.requests.add(rows)


def put_in_production(deps: Dependencies, author: Actor, path: Path) -> str:
    """The release that ``path`` leads to answers ``acme/desk``."""
    ended = climbing.adapt(deps, author, path, Progress())
    digest = str(ended.conclusion.release)
    moves.sign_and_decide(deps, act_as(deps, "acme", "approver"), digest, "approve", "")
    moves.stage(deps, act_as(deps, "acme", "operator"), digest)
    moves.promote(deps, act_as(deps, "acme", "operator"), digest)
    return digest


@pytest.fixture
def answer(deps: Dependencies, author: Actor, objective_path: Path) -> Answer:
    """A release in production; the fixture lets it answer texts."""
    digest = put_in_production(deps, author, objective_path)
    return lambda texts: answered(deps, digest, texts)


def known_texts(deps: Dependencies) -> list[str]:
    """Messages like those of the snapshot: its own, in random order."""
    with deps.ledger.work("acme", write=False) as work:
        (digest,) = work.records.digests(SnapshotManifest)
        manifest = work.records.get(SnapshotManifest, digest)
    texts = [row.text for row in load_rows(manifest, deps.artifacts, Split.TEST)]
    return random.Random(1).sample(texts, min(200, len(texts)))


def by_name(signals: tuple[Signal, ...]) -> dict[str, Signal]:
    return {signal.name: signal for signal in signals}


def test_messages_like_those_of_the_snapshot_are_no_news(deps: Dependencies, operator: Actor, answer: Answer) -> None:
    answer(known_texts(deps))
    found = watch.watch_production(deps, operator)
    assert {"drift.text", "drift.length", "drift.classes", "service.error_rate"} <= set(by_name(found.signals))
    assert found.told == ()
    with deps.ledger.work("acme", write=False) as work:
        assert len(work.signals.latest()) == len(found.signals)


def test_other_messages_are_an_alarm_that_is_told_once(deps: Dependencies, operator: Actor, answer: Answer) -> None:
    ear = MemoryNotifier()
    deps = replace(deps, notifiers=lambda: (ear,))
    answer([f"completely different words about gardening number {n} and some more of them login" for n in range(200)])
    found = watch.watch_production(deps, operator)
    drift = by_name(found.signals)["drift.text"]
    assert drift.severity is Severity.ALARM
    assert drift.p_value is not None
    assert drift.p_value <= 0.01
    assert drift in found.told
    assert len(ear.sent) == 1
    assert isinstance(deps.clock, FixedClock)
    deps.clock.advance(timedelta(hours=1))
    assert watch.watch_production(deps, operator).told == ()
    assert len(ear.sent) == 1
    with deps.ledger.work("acme", write=False) as work:
        assert [entry.event.kind for entry in work.events.latest(len(found.told))] == ["signal.raised"] * len(found.told)


def test_a_release_that_the_engine_refuses_is_an_alarm_as_long_as_it_does(deps: Dependencies, operator: Actor, answer: Answer) -> None:
    """The name has moved, and the release before answers on: nothing else says so."""
    answer(known_texts(deps))
    assert "service.load_refused" not in by_name(watch.watch_production(deps, operator).signals)
    with deps.ledger.work("acme", write=False) as work:
        release = work.aliases.all()[0].targets[0].release
    refused = Corrupt("the engine answers as its base does", "see what it maps", code="adapter_inert")
    for _ in range(2):
        record_refusal(deps, LoadRequest(tenant="acme", release=release, purpose="production"), refused)
    look = watch.watch_production(deps, operator)
    found = by_name(look.signals)["service.load_refused"]
    assert (found.release, found.severity, found.value) == (release, Severity.ALARM, 2)
    assert "adapter_inert" in found.text
    assert found in look.told
    assert isinstance(deps.clock, FixedClock)
    deps.clock.advance(timedelta(minutes=6))
    assert "service.load_refused" not in by_name(watch.watch_production(deps, operator).signals)


def test_users_proven_to_be_discontent_are_an_alarm(deps: Dependencies, author: Actor, operator: Actor, tmp_path: Path) -> None:
    ear = MemoryNotifier()
    deps = replace(deps, notifiers=lambda: (ear,))
    live = [{"metric": metric, "target": 0.6} for metric in ("csat", "thumbs", "outcome")]
    path = write_objective(tmp_path / "live", business=MINIMAL, live_kpis=live)
    answered(deps, put_in_production(deps, author, path), [f"hello {n}" for n in range(100)])
    with deps.ledger.work("acme", write=False) as work:
        ids = [row.id for row in work.requests.latest(100)]
    said = [(FeedbackKind.CSAT, "1"), (FeedbackKind.THUMB, "up"), (FeedbackKind.OUTCOME, "bad")]
    for row in ids:
        for kind, value in said:
            give_feedback(deps, operator, FeedbackGiven(request=row, kind=kind, value=value))
    told = by_name(watch.watch_production(deps, operator).told)
    live_told = {name: signal.severity for name, signal in told.items() if name.startswith("live_kpi.")}
    assert live_told == {"live_kpi.csat": Severity.ALARM, "live_kpi.outcome": Severity.ALARM}
    assert len(ear.sent) == 1


def test_only_operators_and_workers_look(deps: Dependencies, author: Actor) -> None:
    with pytest.raises(Forbidden):
        perform(deps, author, watch.watch_production)
