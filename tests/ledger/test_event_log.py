"""Proofs from kept subtree hashes are those that a naive tree gives, for every size, and cost a few look-ups."""

from __future__ import annotations

import random
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event as sqlalchemy_event

import support.ledger_samples as sample
from support import merkle_proofs
from tailorbird.crypto import merkle
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.ledger import Ledger, open_ledger
from tailorbird.ledger.database import open_database
from tailorbird.ledger.event_log import Events

SIZE = 600


def open_new(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return open_ledger(request.getfixturevalue(f"fresh_{request.param}")(tmp_path_factory.mktemp("grown")))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def grown(request, tmp_path_factory):
    """A log that grew in batches of every length from 1 on, and the leaf hashes in it."""
    with closing(open_new(request, tmp_path_factory)) as ledger:
        made = 0
        while made < SIZE:
            batch = min(random.Random(made).randint(1, 40), SIZE - made)
            with ledger.system() as system:
                made = system.events.append([sample.event("acme", made + n) for n in range(batch)])
        with ledger.system(write=False) as system:
            leaves = [bytes.fromhex(entry.leaf_hash) for entry in system.events.entries()]
        with ledger.system(write=False) as system:
            yield system.events, leaves


many = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(size=st.integers(0, SIZE))
def test_roots(grown, size):
    log, leaves = grown
    assert log.root_at(size) == merkle.root(leaves[:size]).hex()


@many
@given(st.data())
def test_inclusion(grown, data):
    log, leaves = grown
    size = data.draw(st.integers(1, SIZE))
    index = data.draw(st.integers(0, size - 1))
    proof = [bytes.fromhex(h) for h in log.inclusion(index, size)]
    assert proof == list(merkle_proofs.inclusion_proof(leaves[:size], index))
    assert merkle.verify_inclusion(leaves[index], index, size, proof, bytes.fromhex(log.root_at(size)))


@many
@given(st.data())
def test_consistency(grown, data):
    log, leaves = grown
    second = data.draw(st.integers(0, SIZE))
    first = data.draw(st.integers(0, second))
    proof = [bytes.fromhex(h) for h in log.consistency(first, second)]
    assert proof == list(merkle_proofs.consistency_proof(leaves[:second], first))
    assert merkle_proofs.verify_consistency(first, bytes.fromhex(log.root_at(first)), second, bytes.fromhex(log.root_at(second)), proof)


def test_without_a_size_the_whole_log_is_meant(grown):
    log, _ = grown
    assert log.inclusion(7) == log.inclusion(7, SIZE)
    assert log.consistency(77) == log.consistency(77, SIZE)
    assert log.root_at(SIZE) == log.root()
    assert log.consistency(SIZE) == log.consistency(0) == ()


@pytest.mark.parametrize(
    "ask",
    [
        lambda log: log.inclusion(SIZE),
        lambda log: log.inclusion(-1),
        lambda log: log.inclusion(0, 0),
        lambda log: log.inclusion(0, SIZE + 1),
        lambda log: log.inclusion(10, 10),
        lambda log: log.consistency(SIZE + 1),
        lambda log: log.consistency(-1),
        lambda log: log.consistency(5, 4),
        lambda log: log.consistency(0, SIZE + 1),
        lambda log: log.root_at(SIZE + 1),
        lambda log: log.root_at(-1),
    ],
)
def test_what_lies_outside_the_log_is_refused(grown, ask):
    with pytest.raises(InvalidInput) as refused:
        ask(grown[0])
    assert refused.value.error_code == "invalid_input"


def test_the_newest_come_first(grown):
    log, _ = grown
    assert [entry.index for entry in log.latest(3)] == [SIZE - 1, SIZE - 2, SIZE - 3]
    assert [entry.index for entry in log.latest(2, before=3)] == [2, 1]
    assert log.latest(2, before=0) == ()
    assert len(log.latest()) == 50


def test_a_tenant_sees_its_own_newest(ledger):
    for tenant in ("acme", "globex", "acme"):
        with ledger.work(tenant) as work:
            work.events.append([sample.event(tenant)])
    with ledger.work("acme", write=False) as work:
        assert [entry.index for entry in work.events.latest()] == [2, 0]
        assert [entry.index for entry in work.events.latest(before=2)] == [0]


def test_a_proof_takes_three_statements(url, ledger):
    with ledger.system() as system:
        system.events.append([sample.event("acme", n) for n in range(SIZE)])
    with closing(open_database(url)) as database, database.reading() as connection:
        statements = []
        sqlalchemy_event.listen(connection, "before_cursor_execute", lambda *seen: statements.append(seen[2]))
        Events(connection, None).consistency(SIZE // 2 + 1)
    assert len(statements) == 3


@pytest.mark.parametrize("how", ["DELETE FROM log_nodes WHERE level = 8", "UPDATE log_nodes SET hash = 'zz'"])
def test_a_hash_that_is_gone_is_said_to_be(ledger, raw, how):
    with ledger.system() as system:
        system.events.append([sample.event("acme", n) for n in range(300)])
    assert raw(how) >= 1
    with ledger.system(write=False) as system, pytest.raises(Corrupt) as refused:
        system.events.consistency(260)
    assert refused.value.error_code == "log_corrupt"


def test_a_changed_hash_makes_a_proof_that_does_not_hold(ledger, raw):
    with ledger.system() as system:
        system.events.append([sample.event("acme", n) for n in range(300)])
        old, new = system.events.root_at(17), system.events.root()
    assert (
        raw("UPDATE log_nodes SET hash = (SELECT hash FROM log_nodes WHERE level = 4 AND number = 0) WHERE level = 4 AND number = 3") == 1
    )
    with ledger.system(write=False) as system:
        proof = [bytes.fromhex(h) for h in system.events.consistency(17)]
    assert not merkle_proofs.verify_consistency(17, bytes.fromhex(old), 300, bytes.fromhex(new), proof)
