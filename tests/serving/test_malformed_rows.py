"""A row that cannot be read is a matter of its own tenant: the loops go on for all others."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import support.ledger_samples as sample
from support.serving import House
from tailorbird.domain.errors import Corrupt, Forbidden, Unavailable
from tailorbird.domain.identity import Amounts
from tailorbird.processes.worker import check_production
from tailorbird.serving.quotas import Quotas
from tailorbird.serving.reconciler import AliasRecord
from tailorbird.usecases import tenants
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.maintenance.health import examine

ASKED = Amounts(1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.ledger.close()


def sql(house: House, statement: str) -> None:
    with closing(sqlite3.connect(house.folder / "tailorbird.db")) as raw, raw:
        assert raw.execute(statement).rowcount


def suspend(house: House, tenant: str) -> None:
    with house.ledger.system() as system:
        system.tenants.replace(system.tenants.get(tenant).model_copy(update={"suspended_at": house.clock.now()}))


@pytest.mark.parametrize(
    "damage",
    [
        "created_at = 'gibberish'",
        "limits = '{'",
    ],
)
def test_the_limits_of_the_others_are_read(house: House, damage: str) -> None:
    async def story() -> None:
        quotas, now = Quotas(house.ledger, house.clock), house.clock.now()
        await quotas.start()
        await quotas.reserve("acme", ASKED, now)
        await quotas.reserve("globex", ASKED, now)
        with closing(sqlite3.connect(house.folder / "tailorbird.db")) as raw:
            (before,) = raw.execute("SELECT created_at FROM tenants WHERE name = 'globex'").fetchone()
        sql(house, f"UPDATE tenants SET {damage} WHERE name = 'globex'")
        suspend(house, "acme")
        await quotas.loop.round()
        with pytest.raises(Forbidden) as suspended:
            await quotas.reserve("acme", ASKED, now)
        assert suspended.value.error_code == "tenant_suspended"
        with pytest.raises(Unavailable) as unreadable:
            await quotas.reserve("globex", ASKED, now)
        assert unreadable.value.error_code == "limits_unreadable"
        sql(house, f"UPDATE tenants SET created_at = '{before}', limits = '{{}}' WHERE name = 'globex'")
        await quotas.loop.round()
        await quotas.reserve("globex", ASKED, now)
        assert quotas.loop.failures == 0
        await quotas.stop()

    asyncio.run(story())


@pytest.mark.parametrize(
    "column",
    [
        "targets",
    ],
)
def test_names_of_the_others_move(house: House, column: str) -> None:
    first, second = house.release(1), house.release(2, tenant="globex")
    house.point("routing", first)
    record = AliasRecord(house.ledger)
    record.read(full=False)
    house.point("routing", second, tenant="globex")
    sql(house, f"UPDATE aliases SET {column} = '[' WHERE tenant = 'acme'")
    assert record.read(full=True)
    assert set(record.aliases) == {"acme/routing", "globex/routing"}
    fresh = AliasRecord(house.ledger)
    fresh.read(full=False)
    assert set(fresh.aliases) == {"globex/routing"}


def test_workers_find_the_work_of_the_others(house: House) -> None:
    for tenant in ("acme", "globex"):
        with house.ledger.work(tenant) as work:
            work.runs.add(sample.run(tenant))
    sql(house, "UPDATE runs SET created_at = 'gibberish' WHERE tenant = 'acme'")
    with house.ledger.system(write=False) as system:
        assert [run.tenant for run in system.queue.waiting()] == ["globex"]


def test_health_and_retention_go_on_for_the_others(house: House) -> None:
    sql(house, "UPDATE tenants SET created_at = 'gibberish' WHERE name = 'acme'")
    seen = examine(house.deps)
    assert seen.writable
    assert "log_unreadable" not in {notice.code for notice in seen.notices}
    with pytest.raises(Corrupt):  # when all others are done
        tenants.purge(house.deps)
    check_production(house.deps)


def test_what_fails_for_one_tenant_is_done_for_the_others(house: House, caplog: pytest.LogCaptureFixture) -> None:
    def work(tenant: str) -> str:
        if tenant == "acme":
            raise KeyError("a customer's words")
        return tenant

    done = for_each_tenant(house.deps, work)
    assert (done.found, set(done.failed)) == ({"globex": "globex"}, {"acme"})
    assert "customer" not in caplog.text
    with pytest.raises(KeyError):
        done.all()
