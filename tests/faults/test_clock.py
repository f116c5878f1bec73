"""The machine's clock set back by an hour: leases end, the story ends, what was revoked stays revoked, and the log still verifies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from support.doubles import FixedClock
from support.faults import Desk, Ending, ending_of, opened
from tailorbird.auth import Action, KeyFileSealer
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import Unauthenticated
from tailorbird.domain.identity import Login
from tailorbird.domain.run import RunState
from tailorbird.ledger import open_ledger
from tailorbird.processes.worker import StepWorker
from tailorbird.usecases import Dependencies, Progress, sessions
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.identities import NewKey, act_as, create_api_key, revoke_api_key
from tailorbird.usecases.maintenance.audit import make_checkpoint, verify_log
from tailorbird.usecases.runs import engine
from tailorbird.usecases.runs import submit as climbing

HERE = "https://tailorbird.example"
HOUR = timedelta(hours=1)


@pytest.fixture
def clock() -> FixedClock:
    """A clock that goes only where it is moved."""
    return FixedClock(datetime.now(UTC))


@pytest.fixture
def deps(desk: Desk, twins: None, clock: FixedClock) -> Iterator[Dependencies]:
    """The workspace, living by ``clock``."""
    with opened(desk) as found:
        ledger = open_ledger(f"sqlite:///{desk.workspace / 'tailorbird.db'}", clock, KeyFileSealer(desk.workspace))
        yield replace(found, ledger=ledger, clock=clock)
        ledger.close()


def at_step(name: str, do: Callable[[], None]) -> Progress:
    """Progress that does something as soon as the step ``name`` has begun."""
    return Progress(tell=lambda text: do() if text == f"step {name}" else None)


def test_in_the_middle_of_a_story(desk: Desk, deps: Dependencies, clock: FixedClock, undisturbed: Ending) -> None:
    back = at_step("measure prompt zero-shot", lambda: clock.advance(-HOUR))
    climbing.adapt(deps, act_as(deps, "acme", "author"), desk.objective, back)
    assert ending_of(desk) == undisturbed


def test_while_a_dead_process_holds_a_lease(desk: Desk, deps: Dependencies, clock: FixedClock, undisturbed: Ending) -> None:
    """By the clock that was set back its lease has an hour to go, and no other worker would take the step for so long."""
    author = act_as(deps, "acme", "author")
    run = climbing.submit(deps, author, desk.objective, RunState.ACTIVE)
    with deps.ledger.work("acme") as work:
        work.steps.enqueue(run.id, "snapshot")
        assert work.steps.lease(run.id, "elsewhere:1", engine.LEASE) is not None
    StepWorker(deps, Progress(), lambda _: None, once=True).run()
    with deps.ledger.work("acme", write=False) as work:
        assert work.runs.get(run.id).state is RunState.ACTIVE, "a lease that has not ended was taken"
    clock.advance(-HOUR)
    StepWorker(deps, Progress(), lambda _: None, once=True).run()
    assert ending_of(desk) == undisturbed


def test_keys_and_sessions(deps: Dependencies, clock: FixedClock) -> None:
    admin = act_as(deps, "acme", "admin")
    made = create_api_key(deps, admin, NewKey(name="revoked", days=1))
    revoked = made.key
    revoke_api_key(deps, admin, revoked.id)
    login, signature = sessions.log_in(admin, HERE, clock.now())
    _, kept = sessions.open_session(deps, login, signature, {HERE})
    _, ended = sessions.open_session(deps, *sessions.log_in(admin, HERE, clock.now()), {HERE})
    sessions.end_session(deps, ended)
    clock.advance(-HOUR)
    with deps.ledger.system(write=False) as system:
        found = system.tenants.key(revoked.id)
    assert found is not None
    assert not found.is_valid(clock.now())
    assert sessions.actor_of(deps, kept).name == "admin"
    with pytest.raises(Unauthenticated, match="ended"):
        sessions.actor_of(deps, ended)
    with pytest.raises(Unauthenticated) as replayed:
        sessions.open_session(deps, login, signature, {HERE})
    assert replayed.value.error_code == "login_stale"
    assert "clock" in replayed.value.hint
    fresh = Login(tenant="acme", identity="admin", server=HERE, nonce=login.nonce, at=clock.now())
    with pytest.raises(Unauthenticated) as used:
        sessions.open_session(deps, fresh, admin.sign("login", digest_of(fresh)), {HERE})
    assert used.value.error_code == "login_replayed"


def test_the_log(deps: Dependencies, clock: FixedClock) -> None:
    """Its order is that of its entries, not that of their times; checkpoints before and after agree."""
    admin = act_as(deps, "acme", "admin")
    before = make_checkpoint(deps, admin)
    clock.advance(-HOUR)
    create_api_key(deps, admin, NewKey(name="later-by-order"))
    after = make_checkpoint(deps, admin)
    assert after.size > before.size
    assert after.at < before.at
    permit(deps, admin, Action.VERIFY_AUDIT)
    assert verify_log(deps, admin).problems == ()
