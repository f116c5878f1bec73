"""Nothing of one tenant can be seen, changed or even hinted at from another's work: every method of every repository is tried."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, select

import support.ledger_samples as sample
from support.ledger_samples import START, digest, failure
from support.postgresql import as_user
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.errors import Forbidden, TailorbirdError
from tailorbird.domain.feedback import FeedbackKind
from tailorbird.domain.identity import KeyLimits
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.run import RunState, Step, StepState
from tailorbird.ledger import Ledger, UnitOfWork, open_ledger
from tailorbird.ledger.tables import metadata

MINUTE = timedelta(minutes=1)
RELEASE = sample.release("acme")
STEP = Step(run="run0001", tenant="acme", name="held", position=1, state=StepState.LEASED, owner="a", attempts=1)
RESULT = digest("result")

#: What is asked with names of acme's. The answer must hold nothing of acme's; it may be an error.
READS: dict[str, Callable[[UnitOfWork], Any]] = {
    "records.get": lambda w: w.records.get(SplitCounts, sample.digest_of(sample.counts(1))),
    "records.digests": lambda w: w.records.digests(SplitCounts),
    "anchors.all_of": lambda w: w.anchors.all_of("identity"),
    "runs.get": lambda w: w.runs.get("run0001"),
    "runs.all": lambda w: w.runs.all(),
    "runs.ids": lambda w: w.runs.ids(),
    "runs.latest": lambda w: w.runs.latest(),
    "runs.count": lambda w: w.runs.count(),
    "steps.of": lambda w: w.steps.of("run0001"),
    "steps.lease": lambda w: w.steps.lease("run0001", "thief", MINUTE),
    "releases.get": lambda w: w.releases.get(RELEASE.digest),
    "releases.all": lambda w: w.releases.all(),
    "releases.latest": lambda w: w.releases.latest(),
    "releases.count": lambda w: w.releases.count(),
    "judgements.of": lambda w: w.judgements.of(RELEASE.digest),
    "looks.count": lambda w: w.looks.count("routing"),
    "looks.all": lambda w: w.looks.all(),
    "splits.assigned": lambda w: w.splits.assigned("routing"),
    "aliases.get": lambda w: w.aliases.get("routing"),
    "aliases.all": lambda w: w.aliases.all(),
    "aliases.history": lambda w: w.aliases.history("routing"),
    "requests.get": lambda w: w.requests.get("request-1"),
    "requests.latest": lambda w: w.requests.latest(release=digest("release")),
    "runs.newest_by_objective": lambda w: w.runs.newest_by_objective(),
    "runs.in_states": lambda w: w.runs.in_states(tuple(RunState)),
    "requests.of_units": lambda w: w.requests.of_units({""}),
    "usage.paid": lambda w: w.usage.paid("outside", START),
    "requests.traffic": lambda w: w.requests.traffic(START, START + MINUTE),
    "identities.get": lambda w: w.identities.get("ada"),
    "identities.all": lambda w: w.identities.all(),
    "keys.all": lambda w: w.keys.all(),
    "signals.latest": lambda w: w.signals.latest(objective="routing"),
    "decisions.of": lambda w: w.decisions.of("routing"),
    "erasures.get": lambda w: w.erasures.get("000000000001"),
    "erasures.all": lambda w: w.erasures.all(),
    "data_keys.get": lambda w: w.data_keys.get(),
    "usage.used": lambda w: w.usage.used("month", START) if any(w.usage.used("month", START)) else (),
    "storage.counted": lambda w: w.storage.counted([RESULT]),
    "storage.total": lambda w: w.storage.total().artifacts,
    "feedback.of": lambda w: w.feedback.of("request-1"),
    "feedback.marks": lambda w: w.feedback.marks(digest("release"), START),
    "feedback.count": lambda w: w.feedback.count({digest("release")}),
    "feedback.labels": lambda w: w.feedback.labels("", 9),
    "reviews.get": lambda w: w.reviews.get("request-1"),
    "reviews.waiting": lambda w: w.reviews.waiting(),
    "reviews.count": lambda w: w.reviews.count(),
    "contents.page": lambda w: w.contents.page("", 9),
    "contents.get": lambda w: w.contents.get("request-1"),
    "rollouts.get": lambda w: w.rollouts.get("0123"),
    "rollouts.latest": lambda w: w.rollouts.latest(),
    "rollouts.open": lambda w: w.rollouts.open("routing"),
    "rollouts.tallies": lambda w: w.rollouts.tallies("routing", 0, START),
    "rollouts.votes": lambda w: w.rollouts.votes("routing", digest("release")),
    "events.entries": lambda w: tuple(w.events.entries()),
    "events.about": lambda w: w.events.about("run-1"),
    "events.latest": lambda w: (*w.events.latest(), *w.events.latest(subject="run-1")),
}

#: Writes with names or values of acme's.
WRITES: dict[str, Callable[[UnitOfWork], Any]] = {
    "records.put": lambda w: w.records.put(sample.counts(1)),
    "records.forget": lambda w: w.records.forget(SplitCounts, [digest_of(sample.counts(1))]),
    "runs.add": lambda w: w.runs.add(sample.run("acme")),
    "runs.set_state": lambda w: w.runs.set_state("run0001", RunState.FAILED),
    "steps.enqueue": lambda w: w.steps.enqueue("run0001", "more"),
    "steps.heartbeat": lambda w: w.steps.heartbeat(STEP, MINUTE, sample.progress()),
    "steps.complete": lambda w: w.steps.complete(STEP, RESULT, 1.0),
    "steps.fail": lambda w: w.steps.fail(STEP, failure("no")),
    "steps.pay": lambda w: w.steps.pay(STEP, 1.0),
    "steps.release": lambda w: w.steps.release(STEP),
    "steps.retry": lambda w: w.steps.retry("run0001"),
    "releases.add": lambda w: w.releases.add(RELEASE),
    "releases.move": lambda w: w.releases.move(RELEASE.digest, ReleaseState.GATED, ReleaseState.REJECTED),
    "releases.approve": lambda w: w.releases.approve(sample.approval(RELEASE, "mallory")),
    "judgements.add": lambda w: w.judgements.add(sample.judgement(RELEASE, 2)),
    "judgements.forget_reasons": lambda w: w.judgements.forget_reasons([sample.judgement(RELEASE)]),
    "looks.add": lambda w: w.looks.add("routing", RESULT, RESULT),
    "splits.remember": lambda w: w.splits.remember("routing", {digest(1): ("test", "g")}),
    "aliases.put": lambda w: w.aliases.put(sample.alias("acme", 2)),
    "requests.add": lambda w: w.requests.add([sample.request("acme", 2)]),
    "requests.settle": lambda w: w.requests.settle(sample.request("acme")),
    "requests.forget": lambda w: w.requests.forget({"request-1"}),
    "requests.purge": lambda w: w.requests.purge(START + timedelta(days=9), 10),
    "identities.add": lambda w: w.identities.add(sample.identity("acme", "mallory")),
    "identities.replace": lambda w: w.identities.replace(sample.identity("acme").model_copy(update={"disabled_at": START})),
    "keys.add": lambda w: w.keys.add(sample.api_key("acme", 2)),
    "keys.expire": lambda w: w.keys.expire("key-1", START),
    "keys.limit": lambda w: w.keys.limit("key-1", KeyLimits(requests_per_day=9)),
    "keys.revoke": lambda w: w.keys.revoke("key-1", START),
    "sessions.add": lambda w: w.sessions.add(sample.session("acme", 2)),
    "sessions.end": lambda w: w.sessions.end("nonce-1", START),
    "sessions.end_all": lambda w: w.sessions.end_all("ada", sample.START),
    "signals.add": lambda w: w.signals.add([sample.signal("acme", 2)]),
    "splits.forget": lambda w: w.splits.forget([digest(1)]),
    "decisions.add": lambda w: w.decisions.add([sample.decision(2)]),
    "decisions.forget": lambda w: w.decisions.forget([digest(1)]),
    "erasures.add": lambda w: w.erasures.add(sample.erasure("acme", 2)),
    "erasures.take": lambda w: w.erasures.take("000000000001", "thief", MINUTE),
    "erasures.finish": lambda w: w.erasures.finish("000000000001", "a", RESULT),
    "erasures.sign": lambda w: w.erasures.sign("000000000001", RESULT, RELEASE.signature),
    "secrets.get": lambda w: w.secrets.get("rows"),
    "data_keys.add": lambda w: w.data_keys.add(sample.wrapped_key("acme", 2)),
    "data_keys.rewrap": lambda w: w.data_keys.rewrap("scope-1", "another"),
    "usage.add": lambda w: w.usage.add([sample.usage(7)]),
    "storage.add": lambda w: w.storage.add({RESULT: 9, digest("more"): 9}),
    "storage.forget": lambda w: w.storage.forget([RESULT]),
    "feedback.put": lambda w: w.feedback.put(sample.feedback("acme", "down")),
    "feedback.forget": lambda w: w.feedback.forget({"request-1"}),
    "reviews.forget": lambda w: w.reviews.forget({"request-1"}),
    "contents.forget": lambda w: w.contents.forget({"request-1"}),
    "reviews.add": lambda w: w.reviews.add([sample.review("acme", "request-9")]),
    "reviews.replace": lambda w: w.reviews.replace(sample.review("acme").settled("x", "ada", START)),
    "contents.add": lambda w: w.contents.add([sample.content("acme")]),
    "contents.purge": lambda w: w.contents.purge(START + MINUTE),
    "rollouts.add": lambda w: w.rollouts.add(sample.rollout("acme", "other")),
    "rollouts.replace": lambda w: w.rollouts.replace(sample.rollout("acme").model_copy(update={"revision": 2})),
    "events.append": lambda w: w.events.append([sample.event("acme")]),
}

#: Of the log as a whole, which all tenants share and which tells nothing about an event.
SHARED = {"events.size", "events.root", "anchors.differing"}

#: What the ledger itself, units of work above tenants, and the search for unanchored rows ask.
OF_THE_WHOLE_LOG = {f"events.{name}" for name in ("anchor_rest", "committed", "sealed_head", "check_writable", "add_checkpoint")}
OF_THE_WHOLE_LOG |= {f"events.{name}" for name in ("inclusion", "consistency", "root_at", "checkpoints", "last_checkpoint")}
OF_THE_WHOLE_LOG |= {"rollouts.all"}


@pytest.fixture
def filled(ledger):
    """A ledger where acme has one of everything and globex nothing."""
    with ledger.work("acme") as work:
        work.records.put(sample.counts(1))
        work.runs.add(sample.run("acme"))
        work.steps.enqueue("run0001", "held")
        assert work.steps.lease("run0001", "a", MINUTE).attempts == STEP.attempts
        for name in ("failed", "ready"):
            work.steps.enqueue("run0001", name)
        work.steps.fail(work.steps.lease("run0001", "a", MINUTE), failure("failed"))
        work.releases.add(RELEASE)
        work.releases.approve(sample.approval(RELEASE))
        work.judgements.add(sample.judgement(RELEASE))
        work.looks.add("routing", digest("s"), digest("c"))
        work.splits.remember("routing", {digest(1): ("train", "g")})
        work.aliases.put(sample.alias("acme"))
        work.requests.add([sample.request("acme").model_copy(update={"endpoint": "outside", "paid": 0.5})])
        work.identities.add(sample.identity("acme"))
        work.keys.add(sample.api_key("acme"))
        work.sessions.add(sample.session("acme"))
        work.signals.add([sample.signal("acme")])
        work.decisions.add([sample.decision()])
        work.erasures.add(sample.erasure("acme"))
        work.erasures.take("000000000001", "a", MINUTE)
        work.secrets.get("rows")
        work.data_keys.add(sample.wrapped_key("acme"))
        work.usage.add([sample.usage()])
        work.usage.add([sample.key_usage()])
        work.storage.add({RESULT: 5})
        work.feedback.put(sample.feedback("acme"))
        work.feedback.put(sample.feedback("acme").model_copy(update={"kind": FeedbackKind.LABEL}))
        work.reviews.add([sample.review("acme")])
        work.contents.add([sample.content("acme")])
        work.rollouts.add(sample.rollout("acme"))
        work.events.append([sample.event("acme")])
    return ledger


def test_every_method_is_tried(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    with ledger.system() as system:
        methods = {
            f"{name}.{method}"
            for name, repository in vars(system.of("acme")).items()
            for method, _ in inspect.getmembers(repository, inspect.ismethod)
            if not method.startswith("_") and method != "groups"
        }
    assert methods - OF_THE_WHOLE_LOG == READS.keys() | WRITES.keys() | SHARED


def test_every_table_with_a_tenant_has_it_first_in_its_key():
    above = {"tenants", "log_entries", "log_frontier", "log_nodes", "checkpoints", "alias_moves", "gateways"}
    above |= {"anchored_rows", "anchor_nodes"}
    for table in metadata.sorted_tables:
        if table.name not in above:
            assert next(iter(table.primary_key.columns)).name == "tenant", table.name


def answer(ledger, tenant: str, call: Callable[[UnitOfWork], Any]) -> Any:
    try:
        with ledger.work(tenant) as work:
            return call(work)
    except TailorbirdError as error:
        return error


@pytest.mark.parametrize("name", READS)
def test_nothing_is_seen(filled, name):
    other = answer(filled, "globex", READS[name])
    own = answer(filled, "acme", READS[name])
    assert own, f"the test asks for nothing: acme itself sees nothing by {name}"
    assert not isinstance(own, TailorbirdError)
    assert isinstance(other, TailorbirdError) or not other


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_nothing_is_changed(filled, rows_of, name):
    before = rows_of("acme")
    assert len(before) > 14
    outcome = answer(filled, "globex", (READS | WRITES)[name])
    assert rows_of("acme") == before
    assert not isinstance(outcome, TailorbirdError) or "refund" not in str(outcome)


TAKE_VALUES = {"runs.add", "releases.add", "aliases.put", "requests.add", "requests.settle", "keys.add", "events.append"}
TAKE_VALUES |= {"identities.add", "identities.replace", "sessions.add", "signals.add", "erasures.add"}
TAKE_VALUES |= {"feedback.put", "reviews.add", "reviews.replace", "contents.add", "rollouts.add", "rollouts.replace"}
TAKE_VALUES |= {"data_keys.add", "steps.pay"}


@pytest.mark.parametrize("name", sorted(TAKE_VALUES))
def test_a_value_of_another_tenant_is_refused(filled, name):
    outcome = answer(filled, "globex", WRITES[name])
    assert isinstance(outcome, Forbidden)
    assert outcome.error_code == "other_tenant"


@pytest.fixture
def rows_of(request: pytest.FixtureRequest, ledger: Ledger) -> Callable[[str], list[Any]]:
    """Everything that is stored of a tenant."""
    url: str = as_user(request.getfixturevalue("url"))
    return lambda tenant: rows_in(tenant, url)


def rows_in(tenant: str, url: str) -> list[tuple[Any, ...]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        tables = [table for table in metadata.sorted_tables if "tenant" in table.c]
        rows = [(table.name, *row) for table in tables for row in connection.execute(select(table).where(table.c.tenant == tenant))]
    engine.dispose()
    return sorted(rows, key=repr)
