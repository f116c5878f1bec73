"""What every repository of every ledger must do (``ports/``); runs and traffic have files of their own."""

from __future__ import annotations

from datetime import timedelta

import pytest

import support.ledger_samples as sample
from support.ledger_samples import START, digest
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.crypto.log_verification import check_entries
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound
from tailorbird.domain.identity import Role, Tenant
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import ReleaseState
from tailorbird.ledger.repository import text_of

MINUTE = timedelta(minutes=1)


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

    def test_a_decision_stands_in_place_of_an_earlier_one_that_is_named(self, ledger):
        release = sample.release("acme")
        first = sample.approval(release)
        taken_back = first.model_copy(update={"decision": "reject"})
        with ledger.work("acme") as work:
            work.releases.add(release)
            work.releases.approve(first)
            work.releases.approve(sample.approval(release, "zoe"))
            work.releases.approve(taken_back, instead=first)
            with pytest.raises(Conflict, match="already decided"):
                work.releases.approve(first, instead=first)
        with ledger.work("acme", write=False) as work:
            assert work.releases.get(release.digest).approvals == (sample.approval(release, "zoe"), taken_back)

    def test_a_digest_that_is_not_that_of_the_content_is_refused(self, ledger):
        forged = sample.release("acme", 1).model_copy(update={"content": sample.release("acme", 2).content})
        with ledger.work("acme") as work, pytest.raises(Corrupt):
            work.releases.add(forged)

    def test_a_dossier_that_was_exchanged_is_refused(self, ledger, raw):
        release, other = sample.release("acme", 1), sample.release("acme", 2)
        with ledger.work("acme") as work:
            work.releases.add(release)
        assert raw("UPDATE releases SET dossier = :other", other=text_of(other.dossier)) == 1
        for call in (lambda w: w.releases.get(release.digest), lambda w: w.releases.all()):
            with ledger.work("acme", write=False) as work, pytest.raises(Corrupt) as refused:
                call(work)
            assert refused.value.error_code == "record_corrupt"


class TestLooksAndSplits:
    def test_looks_count_up_and_the_same_look_counts_once(self, ledger):
        with ledger.work("acme") as work:
            looks = [("s", "a"), ("s", "b"), ("s", "a"), ("t", "a")]
            assert [work.looks.add("routing", digest(s), digest(c)) for s, c in looks] == [1, 2, 1, 3]
            assert work.looks.add("other", digest("s"), digest("a")) == 1
            asked = [work.looks.add("routing", digest("s"), digest("a"), digest(question)) for question in ("q", "r", "q")]
            assert asked == [4, 5, 4]
            assert (work.looks.count("routing"), work.looks.count("other"), work.looks.count("none")) == (5, 1, 0)

    def test_rows_never_move(self, ledger):
        with ledger.work("acme") as work:
            work.splits.remember("routing", {digest(1): ("train", "g1"), digest(2): ("test", "g2")})
            work.splits.remember("routing", {digest(1): ("dev", "g9"), digest(3): ("dev", "g3")})
            work.splits.remember("routing", {})
            assert work.splits.assigned("routing") == {digest(1): ("train", "g1"), digest(2): ("test", "g2"), digest(3): ("dev", "g3")}
            assert work.splits.assigned("other") == {}


class TestAliases:
    @pytest.mark.parametrize(
        "version",
        [
            1,
            3,
        ],
    )
    def test_any_other_version_is_a_conflict(self, ledger, version):
        with ledger.work("acme") as work:
            work.aliases.put(sample.alias("acme", 1))
            with pytest.raises(Conflict):
                work.aliases.put(sample.alias("acme", version))
            with pytest.raises(Conflict):
                work.aliases.put(sample.alias("acme", 2, name="fresh"))

    def test_a_name_has_an_alias_for_each_stage(self, ledger):
        tried = sample.alias("acme", 1).model_copy(update={"stage": "staging"})
        with ledger.work("acme") as work:
            for version in (1, 2):
                work.aliases.put(sample.alias("acme", version))
            with pytest.raises(NotFound):
                work.aliases.get("routing", "staging")
            work.aliases.put(tried)
            assert work.aliases.all() == (work.aliases.get("routing"),) == (sample.alias("acme", 2),)
            assert (work.aliases.get("routing", "staging"), work.aliases.history("routing", "staging")) == (tried, (tried,))
            assert {alias.path for alias in work.aliases.all(stage=None)} == {"acme/routing", "acme/routing@staging"}
            assert len(work.aliases.history("routing")) == 2
        with ledger.system(write=False) as system:
            assert {path: version for path, (version, _) in system.aliases.newest().items()} == {
                "acme/routing": 2,
                "acme/routing@staging": 1,
            }
            assert system.aliases.moved_since(2) == {"acme/routing@staging"}


class TestIdentities:
    def test_an_identity_is_replaced_whole(self, ledger):
        changed = {
            "roles": frozenset({Role.WORKER}),
            "public_key": "C" * 43 + "=",
            "disabled_at": START,
            "former_keys": ("A" * 43 + "=", "B"),
        }
        after = sample.identity("acme", "ada").model_copy(update=changed)
        with ledger.work("acme") as work:
            for name in ("ada", "grace"):
                work.identities.add(sample.identity("acme", name))
            work.identities.replace(after)
            assert work.identities.all() == (after, sample.identity("acme", "grace"))
            with pytest.raises(NotFound) as refused:
                work.identities.replace(sample.identity("acme", "nobody"))
            assert refused.value.error_code == "identity_missing"

    def test_a_key_leads_to_its_tenant(self, ledger):
        with ledger.work("globex") as work:
            work.keys.add(sample.api_key("globex"))
        with ledger.system(write=False) as system:
            assert system.tenants.key("key-1") == sample.api_key("globex")
            assert system.tenants.key("key-2") is None
        with ledger.work("acme") as work, pytest.raises(Conflict):
            work.keys.add(sample.api_key("acme"))

    def test_a_session_leads_to_its_tenant_until_it_is_ended(self, ledger):
        hour = START + timedelta(hours=1)
        with ledger.work("globex") as work:
            for n in (1, 2):
                work.sessions.add(sample.session("globex", n))
            work.sessions.end("nonce-1", hour)  # it has ended by itself
            work.sessions.end("nonce-2", hour)
            work.sessions.end("nonce-2", hour + MINUTE)
            work.sessions.end("nonce-3", hour)
        with ledger.system(write=False) as system:
            assert system.tenants.session("nonce-1") == sample.session("globex", 1)
            assert system.tenants.session("nonce-2") == sample.session("globex", 2).model_copy(update={"ended_at": hour})
            assert system.tenants.session("nonce-3") is None

    @pytest.mark.parametrize("tenant", ["acme", "globex"])
    def test_a_login_is_used_once(self, ledger, clock, tenant):
        with ledger.work("globex") as work:
            work.sessions.add(sample.session("globex"))
            work.sessions.end("nonce-1", START)
        clock.move(30 * 3600)  # its session would be cleared away now
        with ledger.work(tenant) as work, pytest.raises(Conflict) as refused:
            work.sessions.add(sample.session(tenant))
        assert refused.value.error_code == "conflict"

    def test_tenants(self, ledger):
        with ledger.system() as system:
            assert list(system.tenants.all()) == ["acme", "globex"]
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
            assert system.events.about("run-") == ()
            marks = system.events.checkpoints()
            assert [mark.size for mark in marks] == [7, 20]
            assert check_entries(entries, marks, size=system.events.size(), root=system.events.root()) == ()

    @pytest.mark.parametrize(
        "number",
        [
            2**60,
            float("inf"),
        ],
    )
    def test_a_number_that_would_not_come_back_is_refused(self, ledger, number):
        with ledger.system() as system:
            with pytest.raises(InvalidInput) as refused:
                system.events.append([sample.event("acme").model_copy(update={"data": {"n": number}})])
            assert refused.value.error_code == "invalid_input"
            assert system.events.size() == 0

    def test_a_tenants_log_is_its_own(self, ledger):
        with ledger.work("acme") as work:
            with pytest.raises(Forbidden):
                work.events.append([sample.event("acme"), sample.event("globex")])
            assert list(work.events.entries()) == []
            assert work.events.size() == 0
