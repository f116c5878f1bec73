"""Whatever rolls a transaction back, after whichever entry: the log goes on for everybody, and is intact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from support.operations import with_upkeep
from support.usecases import open_workspace, write_objective
from tailorbird.auth import create_key, load_key, sign
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import Conflict
from tailorbird.domain.event import Event
from tailorbird.domain.identity import Role
from tailorbird.ledger.event_log import Events
from tailorbird.usecases import Actor, Dependencies, Progress, identities, tenants
from tailorbird.usecases.identities import act_as, key_path
from tailorbird.usecases.maintenance import audit
from tailorbird.usecases.maintenance.health import examine
from tailorbird.usecases.registry import perform
from tailorbird.usecases.runs import submit

A = TypeVar("A")


class Interrupted(Exception):
    """Whatever may end a transaction: a full disk, a lost connection, a defect."""


@dataclass
class Interruption:
    """Ends the transaction after its ``after``-th entry; 0: never."""

    after: int = 0
    appended: int = 0

    def entry(self) -> None:
        self.appended += 1
        if self.appended == self.after:
            raise Interrupted


@pytest.fixture
def interruption(monkeypatch: pytest.MonkeyPatch) -> Interruption:
    made = Interruption()
    appends = Events.append

    def append(self: Events, events: list[Event]) -> int:
        size = appends(self, events)
        for _ in events:
            made.entry()
        return size

    monkeypatch.setattr(Events, "append", append)
    return made


def an_event(deps: Dependencies) -> Event:
    return Event(kind="model.pulled", tenant="acme", actor="author", subject="small", at=deps.clock.now())


@dataclass
class Desk:
    """A workspace whose use cases are asked with an interruption after each entry, until none is left; then they are done."""

    deps: Dependencies
    interruption: Interruption

    def who(self, name: str, tenant: str = "acme") -> Actor:
        return act_as(self.deps, tenant, name)

    def interrupted(self, work: Callable[[], A]) -> A:
        for after in count(1):
            self.interruption.after, self.interruption.appended = after, 0
            try:
                return work()
            except Interrupted:
                self.interruption.after = 0
                self.see_log()
            finally:
                self.interruption.after = 0
        raise AssertionError

    def see_log(self) -> None:
        with self.deps.ledger.work("acme") as work:
            work.events.append([an_event(self.deps)])
        assert audit.check_log(self.deps).problems == ()


@pytest.fixture
def desk(tmp_path: Path, interruption: Interruption) -> Iterator[Desk]:
    deps = replace(open_workspace(tmp_path / "workspace"), host="acme")
    yield Desk(with_upkeep(deps, checkpoint_files=(tmp_path / "witness.jsonl",)), interruption)
    deps.ledger.close()


def new_key(desk: Desk, name: str, tenant: str = "acme") -> str:
    return create_key(key_path(desk.deps, tenant, name))


def roll_back_after(deps: Dependencies, appended: int) -> None:
    with deps.ledger.work("acme") as work:
        for _ in range(appended):
            work.events.append([an_event(deps)])
        raise Interrupted


def test_a_second_entry_before_a_rollback(desk: Desk) -> None:
    for appended in (1, 2, 3):
        with pytest.raises(Interrupted):
            roll_back_after(desk.deps, appended)
        desk.see_log()
        assert examine(desk.deps).writable
        perform(desk.deps, desk.who("admin"), tenants.list_tenants)


def test_two_newcomers_of_one_name(desk: Desk) -> None:
    root, second = new_key(desk, "ada"), new_key(desk, "second")
    change = identities.addition("globex", "ada", [Role.ADMIN], second)
    signature = sign(load_key(key_path(desk.deps, "acme", "ada")), "ada", "identity", digest_of(change), desk.deps.clock.now())
    one = tenants.Newcomer(name="ada", roles=frozenset({Role.ADMIN}), public_key=root)
    people = [one, one.model_copy(update={"public_key": second, "signature": signature})]
    with pytest.raises(Conflict) as refused:
        perform(desk.deps, desk.who("admin"), tenants.add_tenant, name="globex", people=tuple(people))
    assert refused.value.error_code == "identity_taken"
    desk.see_log()
    assert [view.tenant.name for view in tenants.list_tenants(desk.deps, desk.who("admin")).tenants] == ["acme"]


def test_a_climb_goes_on_after_each_entry(desk: Desk, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "job", ladder=["floor"])
    worked = desk.interrupted(lambda: submit.adapt(desk.deps, desk.who("author"), path, Progress()).run)
    assert worked.objective_name == "desk"
    assert desk.interruption.appended > 0
    desk.see_log()
