"""Whatever rolls a transaction back, after whichever entry: the log goes on for everybody, and is intact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from support.control import OBJECTIVE, ROWS, upload
from support.ledger_samples import request as request_row
from support.operations import with_upkeep
from support.usecases import answered_once_each, open_workspace, show_gateway, write_disputed, write_objective
from tailorbird.auth import create_key, load_key, make_checkpoint, sign
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.data import load_rows
from tailorbird.domain.curation import FixAction
from tailorbird.domain.dataset import Split
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import Conflict
from tailorbird.domain.event import Event
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind, Review, ReviewReason, TrafficPolicy
from tailorbird.domain.identity import KeyLimits, QuotaLimits, Role, Rotation
from tailorbird.domain.label_review import Mark
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.rollout import RolloutPlan, RolloutStep
from tailorbird.domain.value import Value
from tailorbird.ledger.event_log import Events
from tailorbird.usecases import Actor, Dependencies, Progress, endpoints, feedback, identities, label_review, snapshots, tenants
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.identities import NewKey, act_as, key_path
from tailorbird.usecases.maintenance import audit
from tailorbird.usecases.maintenance.health import examine
from tailorbird.usecases.monitoring.watch import watch_production
from tailorbird.usecases.registry import UseCase, perform, use_cases
from tailorbird.usecases.releases import promotion, rollouts
from tailorbird.usecases.runs import queries, submit
from tailorbird.usecases.snapshots import find_snapshot

SOURCE = {"path": "rows.csv", "subject": "who", "source": {"origin": "written for this test", "license": "Apache-2.0"}}

P = ParamSpec("P")
A = TypeVar("A", bound=Value)


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
    entries: dict[str, int] = field(default_factory=dict)

    def who(self, name: str, tenant: str = "acme") -> Actor:
        return act_as(self.deps, tenant, name)

    def ask(self, who: str, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        answer = self.interrupted(lambda: perform(self.deps, self.who(who), use_case, *args, **kwargs))
        self.entries[use_case.name] = self.entries.get(use_case.name, 0) + self.interruption.appended
        return answer

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


def adapted(desk: Desk, path: Path) -> str:
    ended = submit.adapt(desk.deps, desk.who("author"), path, Progress())
    assert ended.conclusion.release is not None
    return ended.conclusion.release


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


def test_no_use_case_ends_the_log(desk: Desk, tmp_path: Path) -> None:
    """Of each that changes something: the story of a tenant, from its first people to its end."""
    for story in (runs, releases, reviews, data, people, host, traffic):
        story(desk, tmp_path)
    desk.see_log()
    asked = {one.name for one in use_cases() if one.method == "POST"}
    assert asked - set(desk.entries) == set()
    silent = {name for name, entries in desk.entries.items() if not entries}
    assert silent == {"audit.verify", "data.inspect"} | {
        "audit.checkpoint",
        "data.prove",
        "feedback.give",
        "traffic.watch",
    }


def runs(desk: Desk, folder: Path) -> None:
    ladder = OBJECTIVE + "ladder: [lora]\n"
    asked = submit.Submission(objective=ladder, files={"rows.csv": upload(desk.deps, ROWS)})
    run = desk.ask("author", submit.submit_uploaded, asked)
    desk.ask("approver", queries.allow, run=run.id, rung=RungKind.FULL)
    desk.ask("author", queries.cancel_run, run=run.id)
    desk.ask("author", snapshots.inspect_uploaded, name="rows.csv", file=upload(desk.deps, ROWS))


def releases(desk: Desk, folder: Path) -> None:
    first, second = (adapted(desk, write_objective(folder / "job", ladder=["floor"], margin=margin)) for margin in (0.02, 0.03))
    show_gateway(desk.deps)
    for release in (first, second):
        decide(desk, release)
        desk.ask("operator", promotion.stage, digest=release)
        desk.ask("operator", rollouts.drill_release, digest=release)
    desk.ask("operator", promotion.promote, digest=first)
    plan = RolloutPlan(steps=(RolloutStep(share=0.5, requests=1, minutes=0),))
    begun = desk.ask("operator", rollouts.start_rollout, digest=second, plan=plan)
    answered_once_each(desk.deps, begun)
    desk.ask("operator", watch_production)
    desk.ask("operator", rollouts.decide_rollout, rollout=begun.id, decision="roll_back", reason="a drill")
    desk.ask("operator", promotion.roll_back, alias="desk", withdraw=True)


def decide(desk: Desk, release: str) -> None:
    approver = desk.who("approver")
    stated = promotion.statement(desk.deps, approver, release, "approve")
    desk.ask("approver", promotion.decide, digest=release, statement=stated, signature=approver.sign("approve", digest_of(stated)))


def reviews(desk: Desk, folder: Path) -> None:
    release = adapted(desk, write_disputed(folder / "risky", ladder=["floor"], target=0.6))
    shown = label_review.next_shown(desk.deps, desk.who("reviewer"), release)
    assert shown.number
    desk.ask("reviewer", label_review.judge, digest=release, number=shown.number, mark=Mark.LEFT)


def data(desk: Desk, folder: Path) -> None:
    path = write_objective(folder / "people", name="people", data=[SOURCE], kpis=[{"metric": "accuracy", "target": 0.7}])
    rows = path.parent / "rows.csv"
    header, *lines = rows.read_text().splitlines()
    rows.write_text("\n".join([f"{header},who", *(f"{line},person {number // 10} of all" for number, line in enumerate(lines))]) + "\n")
    submit.plan(desk.deps, desk.who("author"), path, Progress())
    with desk.deps.ledger.work("acme", write=False) as work:
        found = find_snapshot(work, "people")
    name, row = found.digest.removeprefix("sha256:"), next(iter(load_rows(found.manifest, desk.deps.artifacts, Split.TRAIN)))
    desk.ask("author", snapshots.prove_row, snapshot=name, text=row.text, target=row.target)
    desk.ask("author", snapshots.fix, snapshot=name, fixes=(snapshots.Fix(row=row.id, action=FixAction.DROP),))
    erased = desk.ask("admin", erase.erase, subject="person 3 of all")
    digest, admin = digest_of(erased.certificate), desk.who("admin")
    desk.ask("admin", erase.certify, erasure=erased.erasure.id, certificate=digest, signature=admin.sign(erase.PURPOSE, digest))


def people(desk: Desk, folder: Path) -> None:
    made = desk.ask("admin", identities.create_api_key, NewKey(name="app")).key
    desk.ask("admin", identities.limit_api_key, id=made.id, limits=KeyLimits(requests_per_minute=5))
    made = desk.ask("admin", identities.rotate_api_key, id=made.id).key
    desk.ask("admin", identities.revoke_api_key, id=made.id)
    for name, role in (("bea", Role.ADMIN), ("cleo", Role.APPROVER)):
        desk.ask("admin", identities.add_identity, name=name, roles=frozenset({role}), public_key=new_key(desk, name))
    desk.ask("bea", identities.confirm, name="cleo")
    cleo, key = desk.who("cleo"), folder / "cleo.key"
    rotation = Rotation(tenant="acme", identity="cleo", public_key=create_key(key), leaked=False)
    proof = sign(load_key(key), "cleo", "rotate", digest_of(rotation), desk.deps.clock.now())
    desk.ask("cleo", identities.rotate, rotation=rotation, present=cleo.sign("rotate", digest_of(rotation)), proof=proof)
    desk.ask("admin", identities.disable, name="cleo")


def host(desk: Desk, folder: Path) -> None:
    name = "globex"
    admin = tenants.Newcomer(name="admin", roles=frozenset({Role.ADMIN}), public_key=new_key(desk, "admin", name))
    desk.ask("admin", tenants.add_tenant, name=name, people=(admin,))
    desk.ask("admin", tenants.limit_tenant, name=name, limits=QuotaLimits(requests_per_minute=3))
    desk.ask("admin", tenants.set_places, name=name, places=())
    desk.ask("admin", tenants.suspend_tenant, name=name)
    desk.ask("admin", tenants.set_policy, policy=TrafficPolicy(review_share=0.1))
    outside = Endpoint(name="outside", url="https://llm.example", region="EU (Example)")
    desk.ask("admin", endpoints.add_endpoint, endpoint=outside, tenants=(name,))
    desk.ask("admin", endpoints.remove_endpoint, name="outside", tenants=(name,))
    desk.ask("admin", tenants.remove_tenant, name=name)


def traffic(desk: Desk, folder: Path) -> None:
    now = desk.deps.clock.now()
    row = request_row("acme", 1).model_copy(update={"release": None, "prediction": "refund", "at": now})
    with desk.deps.ledger.work("acme") as work:
        work.requests.add([row])
        work.reviews.add([Review(tenant="acme", request=row.id, alias=row.alias, reason=ReviewReason.SAMPLE, queued_at=now)])
    desk.ask("viewer", feedback.give_feedback, FeedbackGiven(request=row.id, kind=FeedbackKind.THUMB, value="up"))
    desk.ask("reviewer", feedback.settle_review, request=row.id, label="refund")
    desk.ask("admin", audit.make_checkpoint)
    desk.ask("viewer", audit.verify_log)
    other = make_checkpoint(audit.ORIGIN, 3, "00" * 32, audit.log_key(desk.deps), now)
    with desk.deps.upkeep.checkpoint_files[0].open("a") as witness:
        witness.write(other.model_dump_json() + "\n")
    desk.ask("admin", audit.settle_forks, reason="a drill")
