"""Proofs from kept subtree hashes are those that a naive tree gives, for every size, and cost a few look-ups."""

from __future__ import annotations

import random
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import support.ledger_samples as sample
from support import merkle_proofs
from tailorbird.crypto import merkle
from tailorbird.domain.errors import InvalidInput
from tailorbird.ledger import Ledger, open_ledger

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


many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


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


@pytest.mark.parametrize(
    "ask",
    [
        lambda log: log.inclusion(SIZE),
        lambda log: log.inclusion(0, SIZE + 1),
        lambda log: log.consistency(SIZE + 1),
        lambda log: log.consistency(5, 4),
        lambda log: log.root_at(SIZE + 1),
    ],
)
def test_what_lies_outside_the_log_is_refused(grown, ask):
    with pytest.raises(InvalidInput) as refused:
        ask(grown[0])
    assert refused.value.error_code == "invalid_input"


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
