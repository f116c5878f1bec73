"""Histories of a workspace whose SQLite file belongs to somebody else, who edits any row, restores older copies, and holds no key.

Beside it stands one honest witness, a file that gets every checkpoint. Whatever the order of what people do and what is done to the
database: no release is admitted that people have not approved, and every change that somebody made by hand is named by ``audit verify``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from support.damage import tries
from support.doubles import FixedClock, MemoryEngine, MemoryModelReader, MemoryTrainer
from support.raw_tables import Tables, read_tables, write_tables
from support.release import base as base_ref
from support.release import content, dossier, objective
from support.workspace_ledger import workspace_ledger
from tailorbird import auth
from tailorbird.crypto.canonical_json import canonical_json, digest_of, plain_json
from tailorbird.domain.deployment import AliasTarget
from tailorbird.domain.errors import Corrupt, TailorbirdError
from tailorbird.domain.event import Event
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.objective import RiskTier
from tailorbird.domain.release import Approval, Release, ReleaseState, Statement
from tailorbird.ledger import open_artifacts, open_ledger
from tailorbird.ports.engine import LoadRequest
from tailorbird.release import release_digest
from tailorbird.usecases import Actor, Dependencies, MaintenanceSettings, admit
from tailorbird.usecases.identities import (
    FIRST_PEOPLE,
    NewKey,
    act_as,
    add_identity,
    confirm,
    create_api_key,
    disable,
    initialise,
    key_path,
)
from tailorbird.usecases.identities import revoke_api_key as revoke
from tailorbird.usecases.maintenance.audit import check_log, find_forks, make_checkpoint
from tailorbird.usecases.releases import promotion

PEOPLE = FIRST_PEOPLE | {"admin-2": frozenset({Role.ADMIN}), "approver-2": frozenset({Role.APPROVER})}
NAMES = sorted(PEOPLE)
#: Tables whose rows are anchored, and those of the log itself.
ANCHORED = ("tenants", "identities", "api_keys", "releases", "approvals", "aliases", "rollouts")
LOG = ("log_entries", "log_frontier", "anchored_rows", "anchor_nodes")
STATES = list(ReleaseState)
#: Columns that count rows or moves, and are part of no value.
COUNTS = ("number", "move")
RELEASES = range(3)


Rows = dict[tuple[Any, ...], dict[str, Any]]


class House:
    """The workspace with which every history begins, made once: its people, their keys, and the key of the log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FixedClock()
        self.artifacts = open_artifacts(str(folder / "trees"), folder / "cache")
        tree = folder / "floor"
        tree.mkdir(parents=True)
        (tree / "weights").write_text("weights")
        self.floor = self.artifacts.put_tree(tree)
        self.goal = objective(RiskTier.MINIMAL)
        deps = self.opened()
        initialise(deps, "acme", PEOPLE)
        with deps.ledger.work("acme") as work:
            work.records.put(self.goal)
        deps.ledger.close()
        self.first = read_tables(folder)
        auth.create_key(folder / "mallory.key")
        self.mallory = auth.load_key(folder / "mallory.key")

    def opened(self) -> Dependencies:
        """The workspace as a process that starts now opens it."""
        return Dependencies(
            ledger=workspace_ledger(self.folder, self.clock),
            artifacts=self.artifacts,
            clock=self.clock,
            workspace=self.folder,
            trainer=MemoryTrainer,
            engine=MemoryEngine,
            model_reader=MemoryModelReader,
            upkeep=MaintenanceSettings(checkpoint_files=(self.folder / "witness.jsonl",)),
        )

    def draft(self, number: int) -> Release:
        """A release that passed its gate, signed by its author."""
        bundle = content("prompt", risk=RiskTier.MINIMAL)
        bundle = bundle.model_copy(
            update={"floor": self.floor, "run": f"run{number}", "objective": digest_of(self.goal), "base_model": base_ref().digest}
        )
        shown = dossier(bundle)
        signature = auth.sign(auth.load_key(key_path_of(self.folder, "author")), "author", "release", digest_of(shown), self.clock.now())
        return Release(digest=release_digest(bundle), content=bundle, dossier=shown, state=ReleaseState.GATED, signature=signature)


def key_path_of(folder: Path, name: str) -> Path:
    return folder / "keys" / "acme" / f"{name}.key"


@cache
def house() -> House:
    folder = Path(tempfile.mkdtemp(prefix="tb-hostile-"))
    return House(folder)


class HostileDatabase(RuleBasedStateMachine):
    """Honest rules do what people do; hostile ones write into the store."""

    @initialize(ahead=st.integers(0, 4))
    def begin(self, ahead: int) -> None:
        """A history begins with so much of a release's way done: drafted, approved, staged, promoted."""
        self.house = house()
        (self.house.folder / "witness.jsonl").unlink(missing_ok=True)
        for file in (self.house.folder / "shipping").glob("*"):
            file.unlink()
        write_tables(self.house.folder, self.house.first)
        self.deps = self.house.opened()
        self.copies = [self.state]
        self.releases: dict[int, Release] = {}
        self.approved: dict[str, set[str]] = {}
        self.rejected: set[str] = set()
        self.admitted = 0
        self.touched = False
        self._ship()
        self.stands = [self.state]
        way = (self.draft, lambda number: self.decide(number, "approver", "approve"), self.stage, self.promote)
        for step in way[:ahead]:
            step(0)
        assert self.admitted == (1 if ahead > 1 else 0)

    # What people do.

    @rule(number=st.sampled_from(RELEASES))
    def draft(self, number: int) -> None:
        with self._honest():
            release = self.house.draft(number)
            with self.deps.ledger.work("acme") as work:
                work.releases.add(release)
                work.events.append([self._event("release.drafted", release.digest)])
            self.releases[number] = release

    @rule(number=st.sampled_from(RELEASES), who=st.sampled_from(["approver", "approver-2"]), says=st.sampled_from(["approve", "reject"]))
    def decide(self, number: int, who: str, says: str) -> None:
        release = self.releases.get(number)
        if release is None:
            return
        with self._honest():
            promotion.sign_and_decide(self.deps, self._act(who), release.digest, "approve" if says == "approve" else "reject", "")
            if says == "approve":
                self.approved.setdefault(release.digest, set()).add(who)
            else:
                self.rejected.add(release.digest)

    @rule(number=st.sampled_from(RELEASES))
    def stage(self, number: int) -> None:
        if number in self.releases:
            with self._honest():
                promotion.stage(self.deps, self._act("operator"), self.releases[number].digest)

    @rule(number=st.sampled_from(RELEASES))
    def promote(self, number: int) -> None:
        if number in self.releases:
            with self._honest():
                promotion.promote(self.deps, self._act("operator"), self.releases[number].digest)

    @rule()
    def roll_back(self) -> None:
        with self._honest():
            promotion.roll_back(self.deps, self._act("operator"), "desk", withdraw=True)

    @rule(by=st.sampled_from(["admin", "admin-2"]), role=st.sampled_from([Role.VIEWER, Role.APPROVER]))
    def let_in(self, by: str, role: Role) -> None:
        with self._honest():
            path = key_path(self.deps, "acme", "guest")
            public = auth.public_key(auth.load_key(path)) if path.exists() else auth.create_key(path)
            add_identity(self.deps, self._act(by), "guest", frozenset({role}), public)

    @rule(by=st.sampled_from(["admin", "admin-2", "approver"]))
    def second(self, by: str) -> None:
        """Somebody confirms the guest; what one admin alone admitted is never in a deciding role."""
        with self._honest():
            confirm(self.deps, self._act(by), "guest")

    @rule()
    def let_the_guest_in_by_hand(self) -> None:
        with self._hostile():
            self._edit("identities", lambda rows: _change(rows, "guest", pending=0, admitted_by='["admin","admin-2"]'))

    @rule(by=st.sampled_from(["admin", "admin-2"]), name=st.sampled_from(NAMES))
    def send_away(self, by: str, name: str) -> None:
        with self._honest():
            disable(self.deps, self._act(by), name)

    @rule(by=st.sampled_from(["admin", "admin-2"]))
    def make_and_revoke_a_key(self, by: str) -> None:
        with self._honest():
            made = create_api_key(self.deps, self._act(by), NewKey(name="shop"))
            self._ship()
            revoke(self.deps, self._act(by), made.key.id)

    # What is done to the database.

    @rule()
    def keep_a_copy(self) -> None:
        self.copies.append(self.state)

    @rule(which=st.integers(0, 20))
    def restore_a_copy(self, which: int) -> None:
        with self._hostile():
            write_tables(self.house.folder, self.copies[which % len(self.copies)])

    @rule(which=st.integers(0, 20), table=st.sampled_from([*ANCHORED, *LOG]))
    def restore_a_table(self, which: int, table: str) -> None:
        with self._hostile():
            write_tables(self.house.folder, {table: self.copies[which % len(self.copies)][table]})

    @rule(table=st.sampled_from([*ANCHORED, *LOG]), which=st.integers(0, 1000))
    def delete_a_row(self, table: str, which: int) -> None:
        def drop(rows: Rows) -> None:
            if rows:
                del rows[list(rows)[which % len(rows)]]

        with self._hostile():
            self._edit(table, drop)

    @rule(left=st.sampled_from(["admin", "admin-2"]))
    def leave_one_admin_alone(self, left: str) -> None:
        """The other's row is deleted, and who is left lets an approver in: what needs two admins is not done by one."""
        other = {"admin": "admin-2", "admin-2": "admin"}[left]
        with self._hostile():
            self._edit("identities", lambda rows: rows.pop(("acme", other)))
        before = self._guest()
        self.let_in(left, Role.APPROVER)
        after = self._guest()
        assert after == before or after is None or after["pending"], "one admin let an approver in"

    def _guest(self) -> dict[str, Any] | None:
        return self.state["identities"].get(("acme", "guest"))

    @rule(name=st.sampled_from(NAMES))
    def swap_a_key(self, name: str) -> None:
        public = auth.public_key(self.house.mallory)
        with self._hostile():
            self._edit("identities", lambda rows: _change(rows, name, public_key=public))

    @rule(name=st.sampled_from(NAMES), role=st.sampled_from(list(Role)))
    def grant_a_role(self, name: str, role: Role) -> None:
        with self._hostile():
            self._edit("identities", lambda rows: _change(rows, name, roles=_json(sorted({role, Role.APPROVER}))))

    @rule(number=st.sampled_from(RELEASES), who=st.sampled_from(["approver", "approver-2", "mallory"]))
    def forge_an_approval(self, number: int, who: str) -> None:
        release = self.releases.get(number)
        if release is None:
            return
        stated = Statement(
            release=release.digest, dossier=digest_of(release.dossier), identity=who, role=Role.APPROVER, decision="approve", reason=""
        )
        signature = auth.sign(self.house.mallory, who, "approve", digest_of(stated), self.house.clock.now())
        approval = plain_json(Approval(**dict(stated), signature=signature))
        row = approval | {"tenant": "acme", "number": 1, "signature": _json(approval["signature"])}
        with self._hostile():
            self._edit("identities", lambda rows: self._enter(rows, who))
            self._edit("releases", lambda rows: _change(rows, release.digest, state=ReleaseState.STAGED))
            self._edit("approvals", lambda rows: rows.update({("acme", release.digest, who): row}))

    @rule(number=st.sampled_from(RELEASES), state=st.sampled_from(STATES))
    def set_a_state(self, number: int, state: ReleaseState) -> None:
        release = self.releases.get(number)
        if release is not None:
            with self._hostile():
                self._edit("releases", lambda rows: _change(rows, release.digest, state=state))

    @rule(number=st.sampled_from(RELEASES))
    def move_an_alias(self, number: int) -> None:
        release = self.releases.get(number)
        if release is None:
            return

        def point(rows: Rows) -> None:
            version = 1 + max((key[3] for key in rows), default=0)
            row = {"tenant": "acme", "name": "desk", "stage": "production", "version": version, "moved_at": "2026-01-01 00:00:00.000000"}
            targets = _json([plain_json(AliasTarget(release=release.digest))])
            told = {"targets": targets, "previous": "[]", "moved_by": "operator", "salt": "", "mirror": None, "move": version}
            rows["acme", "desk", "production", version] = row | told

        with self._hostile():
            self._edit("aliases", point)

    @rule(which=st.integers(0, 1000), word=st.sampled_from([("approve", "reject"), ("admin", "viewer"), ("acme", "acne")]))
    def rewrite_an_entry(self, which: int, word: tuple[str, str]) -> None:
        def rewrite(rows: Rows) -> None:
            if rows:
                entry = rows[which % len(rows),]
                entry["body"] = entry["body"].replace(*word)

        with self._hostile():
            self._edit("log_entries", rewrite)

    @rule(number=st.sampled_from(RELEASES))
    def append_as_we_would(self, number: int) -> None:
        """Everything as our own code writes it, tree and anchors too, by somebody without the key of the log."""
        with self._hostile(), suppress(TailorbirdError):
            with closing(open_ledger(f"sqlite:///{self.house.folder / 'tailorbird.db'}", self.house.clock)) as ledger:
                with ledger.work("acme") as work:
                    work.identities.add(self._mallory("mallory"))
                    work.events.append([self._event("identity.added", "mallory")])
        if number in self.releases:
            self.forge_an_approval(number, "mallory")

    @precondition(lambda self: self.touched)
    @rule()
    def put_an_old_seal_under_it(self) -> None:
        with self._hostile():
            seal = self.copies[-1]["log_frontier"][1,]["seal"]
            self._edit("log_frontier", lambda rows: rows[1,].update(seal=seal))

    def _enter(self, rows: Rows, who: str) -> None:
        """Gives a person's row the attacker's key; where there is none, makes an approver's."""
        known = rows.get(("acme", who)) or next(iter(rows.values())) | {"name": who, "roles": _json([Role.APPROVER])}
        rows["acme", who] = known | {"public_key": auth.public_key(self.house.mallory)}

    def _mallory(self, name: str) -> Identity:
        public = auth.public_key(self.house.mallory)
        return Identity(tenant="acme", name=name, roles=frozenset({Role.APPROVER}), public_key=public, created_at=self.house.clock.now())

    # What must hold.

    @contextmanager
    def _honest(self) -> Iterator[None]:
        """Somebody does something, or is refused; then the witness is told. In a record that somebody wrote into, more may be refused."""
        before = self.state
        with suppress(TailorbirdError):
            yield
        self._nothing_unapproved()
        self._follow(before)

    @contextmanager
    def _hostile(self) -> Iterator[None]:
        """Somebody writes into the store; what is another than before must be named, at once and by a process that starts now."""
        before = self.state
        yield
        if _material(self.state) == _material(before):
            return
        self.touched = all(_material(self.state) != _material(stands) for stands in self.stands)
        self.deps.ledger.close()
        self.deps = self.house.opened()
        assert self._named() == self.touched
        written = self.state
        self._nothing_unapproved()
        self._follow(written)

    def _named(self) -> bool:
        try:
            return bool(check_log(self.deps).problems or find_forks(self.deps))
        except Corrupt:
            return True

    def _follow(self, before: Tables) -> None:
        """Tells the witness. What people did to rows that nobody had written into must stand from then on: a refused load is in the log.
        Where the witness could not be told, what stood before may stand again."""
        told = self._ship()
        stands = _carried(self.stands[-1], before, self.state) if self.touched else self.state
        self.stands = [stands] if told else [*self.stands, stands]

    def _ship(self) -> bool:
        for admin in ("admin", "admin-2"):
            with suppress(TailorbirdError):
                make_checkpoint(self.deps, self._act(admin))
                return True
        return False

    def _nothing_unapproved(self) -> None:
        self.admitted = 0
        for release in self.releases.values():
            try:
                admit(self.deps, LoadRequest(tenant="acme", release=release.digest, purpose="production"))
            except TailorbirdError:
                continue
            assert self.approved.get(release.digest), "admitted without an approval"
            assert release.digest not in self.rejected, "admitted although it was rejected"
            self.admitted += 1

    def _act(self, name: str) -> Actor:
        return act_as(self.deps, "acme", name)

    def _event(self, kind: str, subject: str) -> Event:
        return Event(kind=kind, tenant="acme", actor="author", subject=subject, at=self.house.clock.now())

    @property
    def state(self) -> Tables:
        return read_tables(self.house.folder)

    def _edit(self, table: str, change: Callable[[Rows], None]) -> None:
        rows = self.state[table]
        with suppress(KeyError):
            change(rows)
        write_tables(self.house.folder, {table: rows})

    def teardown(self) -> None:
        self.deps.ledger.close()


def _json(value: Any) -> str:
    return canonical_json(value).decode()


def _change(rows: Rows, name: str, **columns: object) -> None:
    rows["acme", name].update(columns)


def _carried(stands: Tables, before: Tables, after: Tables) -> Tables:
    """``stands`` with what changed between ``before`` and ``after`` in rows that were as they stand."""
    carried = dict(stands)
    for table in (*ANCHORED, *LOG):
        mine, then, today = (tables[table] for tables in (stands, before, after))
        changed = [key for key in then.keys() | today.keys() if then.get(key) != today.get(key) and then.get(key) == mine.get(key)]
        carried[table] = {key: row for key, row in mine.items() if key not in changed} | {
            key: today[key] for key in changed if key in today
        }
    return carried


def _material(state: Tables) -> Tables:
    return {
        table: {key: {name: value for name, value in row.items() if name not in COUNTS} for key, row in state[table].items()}
        for table in (*ANCHORED, *LOG)
    }


TestHostileDatabase = HostileDatabase.TestCase
TestHostileDatabase.settings = settings(tries(15), stateful_step_count=12)
