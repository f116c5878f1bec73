"""What every ledger must do with usage, stored artifacts and gateways."""

from __future__ import annotations

from datetime import timedelta

import support.ledger_samples as sample
from support.ledger_samples import START, digest
from tailorbird.domain.identity import Amounts

DAY = timedelta(days=1)


def test_a_gateway_is_told_what_the_others_counted_for_every_tenant(ledger):
    for tenant in ("acme", "globex"):
        with ledger.work(tenant) as work:
            work.usage.add([sample.usage(1), sample.usage(3).model_copy(update={"gateway": "h"})])
            own_key = sample.key_usage(5).model_copy(update={"key": f"key-of-{tenant}", "gateway": "h"})
            work.usage.add([own_key, own_key])
    with ledger.system(write=False) as system:
        assert system.usage.by_others("g", {"month": START}, {}) == {
            ("acme", "", "month"): Amounts(3, 2, 3, 0.5),
            ("globex", "", "month"): Amounts(3, 2, 3, 0.5),
        }
        assert system.usage.by_others("i", {"month": START + DAY}, {}) == {}
        assert system.usage.by_others("g", {}, {"day": START})["acme", "key-of-acme", "day"] == Amounts(10, 4, 6, 1.0)
        assert system.usage.by_others("h", {}, {"day": START}) == {}


def test_gateways_that_serve_are_known_with_the_move_they_reached(ledger):
    with ledger.system() as system:
        system.gateways.beat("old", 1, START)
        system.gateways.beat("new", 2, START + DAY)
        system.gateways.beat("new", 3, START + DAY)
        assert system.gateways.serving(START) == {"old": 1, "new": 3}
        assert system.gateways.serving(START + DAY) == {"new": 3}
        system.gateways.leave("new")
        system.gateways.leave("unknown")
        assert system.gateways.serving(START) == {"old": 1}


def test_a_removed_tenant_takes_its_rows_along_and_no_others(ledger):
    for tenant in ("acme", "globex"):
        with ledger.work(tenant) as work:
            work.releases.add(sample.release(tenant))
            work.aliases.put(sample.alias(tenant))
            work.storage.add({digest("a"): 3})
            work.events.append([sample.event(tenant)])
    with ledger.system() as system:
        assert digest("adapter") in set(system.references.digests(of="acme"))
        moved = system.tenants.aliases_moved()
        gone = system.tenants.remove("acme")
        assert {table: rows for table, rows in gone.items() if rows} == {"releases": 1, "aliases": 1, "stored": 1}
        assert system.tenants.aliases_moved() > moved
        assert list(system.tenants.all()) == ["globex"]
        assert not set(system.references.digests(of="acme"))
        assert {digest("adapter"), sample.release("globex").digest} <= set(system.references.digests())
        assert digest("a") not in set(system.references.digests()), "what is counted is not thereby kept"
        assert system.events.size() == 2
    with ledger.work("globex", write=False) as work:
        assert work.releases.count() == work.storage.total().artifacts == 1
