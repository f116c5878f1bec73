"""What every repository of every ledger must do (``ports/``)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import ledger_samples as sample
import pytest
from ledger_samples import START, digest

from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, LeaseLost, NotFound
from tailorbird.domain.evidence import Metric
from tailorbird.domain.identity import Tenant
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.run import RunState, StepState
from tailorbird.domain.value import Value
from tailorbird.foundations.auditlog import check_entries
from tailorbird.foundations.canonical import digest_of

MINUTE = timedelta(minutes=1)


class TwinCounts(Value):
    """Has the fields of SplitCounts, and so, for equal content, its digest."""

    train: int
    dev: int
    test: int


def an_objective() -> Objective:
    return Objective.model_validate(
        {
            "name": "routing",
            "tenant": "acme",
            "business": {"goal": "sort", "owner": "ops", "risk": "limited"},
            "task": {"kind": "classify", "instruction": "Sort."},
            "data": [{"path": "a.csv", "source": {"origin": "us", "license": "CC0", "collected": "2020-03-01"}}],
            "kpis": [{"metric": "accuracy", "target": 1.0}],
        }
    )


class TestRecords:
    @pytest.mark.parametrize(
        "value", [sample.counts(3), an_objective(), sample.identity("acme"), sample.release("acme")], ids=lambda v: type(v).__name__
    )
    def test_what_is_put_comes_back_equal(self, ledger, value):
        with ledger.work("acme") as work:
            name = work.records.put(value)
            assert name == digest_of(value)
        with ledger.work("acme", write=False) as work:
            assert work.records.get(type(value), name) == value

    def test_putting_twice_keeps_one(self, ledger):
        with ledger.work("acme") as work:
            assert work.records.put(sample.counts(1)) == work.records.put(sample.counts(1))
            assert len(work.records.digests(SplitCounts)) == 1

    def test_digests_are_oldest_first_and_of_one_kind(self, ledger):
        with ledger.work("acme") as work:
            names = [work.records.put(sample.counts(n)) for n in (5, 3, 9, 1)]
            work.records.put(sample.identity("acme"))
            work.records.put(sample.counts(3))
            assert list(work.records.digests(SplitCounts)) == names

    def test_equal_content_of_two_kinds_is_two_records(self, ledger):
        with ledger.work("acme") as work:
            name = work.records.put(sample.counts(1))
            with pytest.raises(NotFound):
                work.records.get(TwinCounts, name)
            work.records.put(TwinCounts(train=1, dev=1, test=2))
            assert work.records.get(TwinCounts, name) == TwinCounts(train=1, dev=1, test=2)
            assert work.records.get(SplitCounts, name) == sample.counts(1)

    def test_an_unknown_digest_is_not_found(self, ledger):
        with ledger.work("acme", write=False) as work, pytest.raises(NotFound, match="SplitCounts"):
            work.records.get(SplitCounts, digest("nothing"))

    def test_floats_survive(self, ledger):
        metric = Metric(name="accuracy", value=0.1 + 0.2, low=1e-300, high=1.0, confidence=0.9, n=3, method="wilson")
        with ledger.work("acme") as work:
            assert work.records.get(Metric, work.records.put(metric)) == metric


class TestRuns:
    def test_a_run_of_the_same_inputs_is_the_same_run(self, ledger):
        first = sample.run("acme")
        with ledger.work("acme") as work:
            assert work.runs.add(first) == first
            again = first.model_copy(update={"id": "other", "created_by": "bob"})
            assert work.runs.add(again) == first
            assert work.runs.all() == (first,)

    def test_an_id_of_another_run_is_refused(self, ledger):
        with ledger.work("acme") as work:
            work.runs.add(sample.run("acme"))
            with pytest.raises(Conflict):
                work.runs.add(sample.run("acme").model_copy(update={"fingerprint": digest("other")}))

    def test_get_by_id_or_by_what_it_alone_starts_with(self, ledger):
        with ledger.work("acme") as work:
            for n in (1, 2, 13):
                work.runs.add(sample.run("acme", n))
            work.runs.add(sample.run("acme", 5).model_copy(update={"id": "run00"}))
            assert work.runs.get("run0013").id == work.runs.get("run001").id == "run0013"
            assert work.runs.get("run00").id == "run00"
            for wrong in ("run0", "RUN0013", "run_0", "%", "", "run0013x"):
                with pytest.raises(NotFound):
                    work.runs.get(wrong)

    def test_all_is_newest_first_even_when_times_tie(self, ledger):
        with ledger.work("acme") as work:
            for n in (3, 1, 2):
                work.runs.add(sample.run("acme", n).model_copy(update={"created_at": START}))
            assert [run.id for run in work.runs.all()] == ["run0002", "run0001", "run0003"]

    def test_states(self, ledger):
        with ledger.work("acme") as work:
            work.runs.add(sample.run("acme"))
            work.runs.set_state("run0001", RunState.DONE)
            assert work.runs.get("run0001").state is RunState.DONE
            with pytest.raises(NotFound):
                work.runs.set_state("run0009", RunState.DONE)

    def test_times_come_back_in_utc(self, ledger):
        local = datetime(2026, 3, 1, 1, 2, 3, 456789, tzinfo=timezone(timedelta(hours=9)))
        with ledger.work("acme") as work:
            kept = work.runs.add(sample.run("acme").model_copy(update={"created_at": local}))
        assert kept.created_at == local
        assert kept.created_at.tzinfo is UTC

    def test_a_time_without_a_zone_is_refused(self, ledger):
        naive = sample.run("acme").model_copy(update={"created_at": START.replace(tzinfo=None)})
        with pytest.raises(InvalidInput) as refused, ledger.work("acme") as work:
            work.runs.add(naive)
        assert refused.value.error_code == "time_without_zone"


@pytest.fixture
def work(ledger):
    with ledger.work("acme") as opened:
        opened.runs.add(sample.run("acme"))
        yield opened


class TestSteps:
    def test_enqueue_is_idempotent_and_keeps_order(self, work):
        for name in ("snapshot", "plan", "climb", "plan"):
            work.steps.enqueue("run0001", name)
        assert [(s.name, s.position, s.state) for s in work.steps.of("run0001")] == [
            ("snapshot", 1, StepState.READY),
            ("plan", 2, StepState.READY),
            ("climb", 3, StepState.READY),
        ]

    def test_a_step_needs_its_run(self, ledger):
        with pytest.raises(Conflict), ledger.work("acme") as work:
            work.steps.enqueue("run0001", "plan")

    def test_a_lease_belongs_to_one(self, work, clock):
        work.steps.enqueue("run0001", "plan")
        held = work.steps.lease("run0001", "a", MINUTE)
        assert (held.state, held.owner, held.lease_until, held.attempts) == (StepState.LEASED, "a", clock.now() + MINUTE, 1)
        assert work.steps.lease("run0001", "b", MINUTE) is None

    def test_the_first_step_comes_first(self, work):
        for name in ("z", "a"):
            work.steps.enqueue("run0001", name)
        assert work.steps.lease("run0001", "a", MINUTE).name == "z"
        assert work.steps.lease("run0001", "b", MINUTE).name == "a"

    def test_complete(self, work):
        work.steps.enqueue("run0001", "plan")
        done = work.steps.complete(work.steps.lease("run0001", "a", MINUTE), digest("result"), 1.5)
        assert (done.state, done.result, done.seconds, done.lease_until) == (StepState.DONE, digest("result"), 1.5, None)
        assert work.steps.lease("run0001", "a", MINUTE) is None
        with pytest.raises(LeaseLost):
            work.steps.complete(done, digest("again"), 1.0)

    def test_an_expired_lease_is_taken_over_and_the_late_one_is_refused(self, work, clock):
        work.steps.enqueue("run0001", "plan")
        late = work.steps.lease("run0001", "a", MINUTE)
        clock.move(60)
        taken = work.steps.lease("run0001", "b", MINUTE)
        assert (taken.owner, taken.attempts) == ("b", 2)
        for call in (
            lambda: work.steps.heartbeat(late, MINUTE),
            lambda: work.steps.complete(late, digest("late"), 1.0),
            lambda: work.steps.fail(late, "late"),
        ):
            with pytest.raises(LeaseLost):
                call()
        work.steps.release(late)
        assert work.steps.of("run0001") == (taken,)

    def test_its_own_next_life_is_another_holder(self, work, clock):
        work.steps.enqueue("run0001", "plan")
        former = work.steps.lease("run0001", "a", MINUTE)
        clock.move(61)
        work.steps.lease("run0001", "a", MINUTE)
        with pytest.raises(LeaseLost):
            work.steps.complete(former, digest("late"), 1.0)

    def test_late_but_not_taken_over_still_counts(self, work, clock):
        work.steps.enqueue("run0001", "plan")
        held = work.steps.lease("run0001", "a", MINUTE)
        clock.move(3600)
        assert work.steps.complete(held, digest("late"), 1.0).state is StepState.DONE

    def test_a_heartbeat_keeps_the_lease(self, work, clock):
        work.steps.enqueue("run0001", "plan")
        held = work.steps.lease("run0001", "a", MINUTE)
        clock.move(59)
        work.steps.heartbeat(held, MINUTE)
        clock.move(59)
        assert work.steps.lease("run0001", "b", MINUTE) is None
        clock.move(1)
        assert work.steps.lease("run0001", "b", MINUTE) is not None

    def test_release_gives_back(self, work):
        work.steps.enqueue("run0001", "plan")
        held = work.steps.lease("run0001", "a", MINUTE)
        work.steps.release(held)
        again = work.steps.lease("run0001", "b", MINUTE)
        assert (again.owner, again.attempts) == ("b", 2)
        with pytest.raises(LeaseLost):
            work.steps.complete(held, digest("r"), 1.0)

    def test_a_failed_step_waits_for_retry(self, work):
        work.steps.enqueue("run0001", "plan")
        failed = work.steps.fail(work.steps.lease("run0001", "a", MINUTE), "exhausted: memory")
        assert (failed.state, failed.error) == (StepState.FAILED, "exhausted: memory")
        assert work.steps.lease("run0001", "a", MINUTE) is None
        work.steps.retry("run0001")
        again = work.steps.lease("run0001", "b", MINUTE)
        assert (again.state, again.error, again.attempts) == (StepState.LEASED, None, 2)


class TestReleases:
    def test_what_is_added_comes_back_with_its_approvals(self, ledger):
        release = sample.release("acme")
        with ledger.work("acme") as work:
            work.releases.add(release)
            work.releases.add(release.model_copy(update={"state": ReleaseState.PRODUCTION}))
            for name in ("zoe", "grace"):
                work.releases.approve(sample.approval(release, name))
        approved = release.model_copy(update={"approvals": (sample.approval(release, "zoe"), sample.approval(release, "grace"))})
        with ledger.work("acme", write=False) as work:
            assert work.releases.get(release.digest) == approved
            assert work.releases.all() == (approved,)

    def test_a_release_with_approvals_keeps_them(self, ledger):
        release = sample.release("acme")
        release = release.model_copy(update={"approvals": (sample.approval(release),)})
        with ledger.work("acme") as work:
            work.releases.add(release)
            assert work.releases.get(release.digest) == release

    def test_get_by_prefix(self, ledger):
        first, second = sample.release("acme", 1), sample.release("acme", 2)
        with ledger.work("acme") as work:
            work.releases.add(first)
            work.releases.add(second)
            assert work.releases.get(first.digest[:19]) == work.releases.get(first.digest[7:19]) == first
            for wrong in ("", "sha256:", "sha", "zz", first.digest + "0"):
                with pytest.raises(NotFound):
                    work.releases.get(wrong)
            assert work.releases.all() == (second, first)

    def test_an_ambiguous_prefix_is_not_found(self, ledger):
        with ledger.work("acme") as work:
            for n in range(17):
                work.releases.add(sample.release("acme", n))
            firsts = [release.digest[7] for release in work.releases.all()]
            shared = next(first for first in firsts if firsts.count(first) > 1)
            with pytest.raises(NotFound, match="more than one"):
                work.releases.get(shared)

    def test_a_move_needs_the_state_it_starts_from(self, ledger):
        release = sample.release("acme")
        with ledger.work("acme") as work:
            work.releases.add(release)
            work.releases.move(release.digest, ReleaseState.GATED, ReleaseState.APPROVED)
            with pytest.raises(Conflict, match="is approved, not gated"):
                work.releases.move(release.digest, ReleaseState.GATED, ReleaseState.REJECTED)
            assert work.releases.get(release.digest).state is ReleaseState.APPROVED
            with pytest.raises(NotFound):
                work.releases.move(digest("other"), ReleaseState.GATED, ReleaseState.APPROVED)

    def test_nobody_decides_twice(self, ledger):
        release = sample.release("acme")
        with ledger.work("acme") as work:
            work.releases.add(release)
            work.releases.approve(sample.approval(release))
            with pytest.raises(Conflict, match="already decided"):
                work.releases.approve(sample.approval(release).model_copy(update={"decision": "reject"}))
            with pytest.raises(NotFound):
                work.releases.approve(sample.approval(sample.release("acme", 2)))

    def test_a_digest_that_is_not_that_of_the_content_is_refused(self, ledger):
        forged = sample.release("acme", 1).model_copy(update={"content": sample.release("acme", 2).content})
        with ledger.work("acme") as work, pytest.raises(Corrupt):
            work.releases.add(forged)


class TestLooksAndSplits:
    def test_looks_count_up_and_the_same_look_counts_once(self, ledger):
        with ledger.work("acme") as work:
            looks = [("s", "a"), ("s", "b"), ("s", "a"), ("t", "a")]
            assert [work.looks.add("routing", digest(s), digest(c)) for s, c in looks] == [1, 2, 1, 3]
            assert work.looks.add("other", digest("s"), digest("a")) == 1
            assert (work.looks.count("routing"), work.looks.count("other"), work.looks.count("none")) == (3, 1, 0)

    def test_rows_never_move(self, ledger):
        with ledger.work("acme") as work:
            work.splits.remember("routing", {digest(1): ("train", "g1"), digest(2): ("test", "g2")})
            work.splits.remember("routing", {digest(1): ("dev", "g9"), digest(3): ("dev", "g3")})
            work.splits.remember("routing", {})
            assert work.splits.assigned("routing") == {digest(1): ("train", "g1"), digest(2): ("test", "g2"), digest(3): ("dev", "g3")}
            assert work.splits.assigned("other") == {}


class TestAliases:
    def test_versions_follow_each_other(self, ledger):
        with ledger.work("acme") as work:
            for version in (1, 2, 3):
                work.aliases.put(sample.alias("acme", version))
            assert work.aliases.get("routing") == sample.alias("acme", 3)
            assert work.aliases.history("routing") == tuple(sample.alias("acme", version) for version in (1, 2, 3))

    @pytest.mark.parametrize("version", [0, 1, 3])
    def test_any_other_version_is_a_conflict(self, ledger, version):
        with ledger.work("acme") as work:
            work.aliases.put(sample.alias("acme", 1))
            with pytest.raises(Conflict):
                work.aliases.put(sample.alias("acme", version))
            with pytest.raises(Conflict):
                work.aliases.put(sample.alias("acme", 2, name="fresh"))

    def test_all_is_by_name_and_current(self, ledger):
        with ledger.work("acme") as work:
            for name, version in (("b", 1), ("a", 1), ("b", 2)):
                work.aliases.put(sample.alias("acme", version, name))
            assert [(a.name, a.version) for a in work.aliases.all()] == [("a", 1), ("b", 2)]
            with pytest.raises(NotFound):
                work.aliases.get("c")
            assert work.aliases.history("c") == ()

    def test_the_system_sees_that_any_alias_moved(self, ledger):
        seen = []
        for tenant, version in (("acme", 1), ("globex", 1), ("acme", 2)):
            with ledger.work(tenant) as work:
                work.aliases.put(sample.alias(tenant, version))
            with ledger.system(write=False) as system:
                seen.append(system.tenants.aliases_moved())
        assert seen == sorted(set(seen))


class TestRequests:
    def test_rows_come_back_newest_first(self, ledger):
        with ledger.work("acme") as work:
            work.requests.add([sample.request("acme", n) for n in (2, 1, 3)])
            work.requests.add([])
            assert work.requests.get("request-2") == sample.request("acme", 2)
            assert [row.id for row in work.requests.latest()] == ["request-3", "request-2", "request-1"]
            assert [row.id for row in work.requests.latest(1)] == ["request-3"]
            with pytest.raises(NotFound):
                work.requests.get("request-4")

    def test_an_id_is_used_once(self, ledger):
        with ledger.work("acme") as work:
            work.requests.add([sample.request("acme", 1)])
        with pytest.raises(Conflict), ledger.work("acme") as work:
            work.requests.add([sample.request("acme", 2), sample.request("acme", 1)])
        with ledger.work("acme", write=False) as work:
            assert len(work.requests.latest()) == 1


class TestIdentities:
    def test_identities(self, ledger):
        with ledger.work("acme") as work:
            for name in ("grace", "ada"):
                work.identities.add(sample.identity("acme", name))
            assert work.identities.get("ada") == sample.identity("acme", "ada")
            assert [i.name for i in work.identities.all()] == ["ada", "grace"]
            with pytest.raises(Conflict, match="already has an identity ada"):
                work.identities.add(sample.identity("acme", "ada"))
            with pytest.raises(NotFound):
                work.identities.get("nobody")

    def test_keys(self, ledger):
        with ledger.work("acme") as work:
            for n in (2, 1):
                work.keys.add(sample.api_key("acme", n))
            assert [key.id for key in work.keys.all()] == ["key-1", "key-2"]
            revoked = work.keys.revoke("key-1", START + MINUTE)
            assert revoked.revoked_at == START + MINUTE
            assert work.keys.revoke("key-1", START + 2 * MINUTE) == revoked
            with pytest.raises(NotFound):
                work.keys.revoke("key-9", START)
            with pytest.raises(Conflict):
                work.keys.add(sample.api_key("acme", 1))

    def test_a_key_leads_to_its_tenant(self, ledger):
        with ledger.work("globex") as work:
            work.keys.add(sample.api_key("globex"))
        with ledger.system(write=False) as system:
            assert system.tenants.key("key-1") == sample.api_key("globex")
            assert system.tenants.key("key-2") is None
        with ledger.work("acme") as work, pytest.raises(Conflict):
            work.keys.add(sample.api_key("acme"))

    def test_tenants(self, ledger):
        with ledger.system() as system:
            assert [tenant.name for tenant in system.tenants.all()] == ["acme", "globex"]
            with pytest.raises(Conflict):
                system.tenants.add(Tenant(name="acme", created_at=START))
        with pytest.raises(NotFound) as refused, ledger.work("initech"):
            pass
        assert refused.value.error_code == "tenant_missing"


class TestEvents:
    def test_events_keep_their_order_and_the_log_holds(self, ledger):
        events = [sample.event("acme", n, subject=f"run-{n % 3}") for n in range(20)]
        with ledger.system() as system:
            assert system.events.size() == 0
            assert system.events.append(events[:7]) == 7
            system.events.add_checkpoint(sample.checkpoint(7, system.events.root()))
            assert system.events.append([]) == 7
            assert system.events.append(events[7:]) == 20
            system.events.add_checkpoint(sample.checkpoint(20, system.events.root()))
        with ledger.system(write=False) as system:
            entries = list(system.events.entries())
            assert [entry.event for entry in entries] == events
            assert [entry.index for entry in system.events.entries(5, 8)] == [5, 6, 7]
            assert [entry.index for entry in system.events.about("run-2")] == [2, 5, 8, 11, 14, 17]
            marks = system.events.checkpoints()
            assert [mark.size for mark in marks] == [7, 20]
            assert check_entries(entries, marks, size=system.events.size(), root=system.events.root()) == ()

    @pytest.mark.parametrize("number", [2**53 - 1, 0.1, -0.0, 1e22, 5e-324])
    def test_numbers_that_come_back_are_taken(self, ledger, number):
        with ledger.system() as system:
            system.events.append([sample.event("acme").model_copy(update={"data": {"n": number}})])
            assert check_entries(system.events.entries(), [], size=1, root=system.events.root()) == ()

    @pytest.mark.parametrize("number", [2**60, 2.0**53, 1e20, float("inf")])
    def test_a_number_that_would_not_come_back_is_refused(self, ledger, number):
        with ledger.system() as system:
            with pytest.raises(InvalidInput) as refused:
                system.events.append([sample.event("acme").model_copy(update={"data": {"n": number}})])
            assert refused.value.error_code == "event_number"
            assert system.events.size() == 0

    def test_a_tenants_log_is_its_own(self, ledger):
        with ledger.work("acme") as work:
            with pytest.raises(Forbidden):
                work.events.append([sample.event("acme"), sample.event("globex")])
            assert list(work.events.entries()) == []
            assert work.events.size() == 0
