"""Decisions, erasures and secrets: what is kept of them, on both databases."""

from __future__ import annotations

import pytest

import support.ledger_samples as sample
from support.ledger_samples import digest
from tailorbird.domain.curation import FixAction
from tailorbird.domain.errors import NotFound

ID = "000000000001"


def test_the_newest_decision_about_a_row_counts(ledger):
    with ledger.work("acme") as work:
        work.decisions.add([sample.decision(1), sample.decision(2)])
        work.decisions.add([sample.decision(1, FixAction.DROP)])
        assert [(found.row, found.action) for found in work.decisions.of("routing")] == [
            (digest(2), FixAction.RELABEL),
            (digest(1), FixAction.DROP),
        ]
        assert work.decisions.of("another") == ()
        assert work.decisions.forget([digest(1), digest(9)]) == 2
        assert [found.row for found in work.decisions.of("routing")] == [digest(2)]


def test_one_person_is_erased_once(ledger):
    with ledger.work("acme") as work:
        first = work.erasures.add(sample.erasure("acme"))
        again = work.erasures.add(sample.erasure("acme").model_copy(update={"id": "f" * 12}))
        assert again == first == work.erasures.get(ID[:12]) == work.erasures.all()[0]
        with pytest.raises(NotFound):
            work.erasures.get("abc")


def test_a_secret_is_made_once_and_is_each_tenants_own(ledger):
    with ledger.work("acme") as work:
        first = work.secrets.get("rows")
        assert len(first) == 32
        assert work.secrets.get("other") != first
    with ledger.work("acme", write=False) as work:
        assert work.secrets.get("rows") == first
    with ledger.work("globex") as work:
        assert work.secrets.get("rows") != first


def test_a_data_key_is_kept_once_and_wrapped_anew(ledger):
    first, second = sample.wrapped_key("acme"), sample.wrapped_key("acme", 2)
    with ledger.work("acme") as work:
        assert work.data_keys.get() is None
        assert work.data_keys.add(first) == first
        assert work.data_keys.add(second) == first
    with ledger.work("acme") as work:
        with pytest.raises(NotFound) as missing:
            work.data_keys.rewrap(second.scope, "stolen")
        assert missing.value.error_code == "data_key_missing"
        work.data_keys.rewrap(first.scope, "anew")
    with ledger.work("acme", write=False) as work:
        assert work.data_keys.get() == first.model_copy(update={"wrapped": "anew"})
    with ledger.work("globex", write=False) as work:
        assert work.data_keys.get() is None
