"""Admission: what it costs to find release, people and aliases as the log anchors them, in a log of a million events. ``--quick``: a tenth.

The tenant has 200 identities, 2,000 API keys and 50 releases; another 9,800 rows are anchored beside them. A check counts with the
transaction around it and with reading the rows; hashing the artifacts, which takes as long as they are large, is not part of it. The last
line of stdout has the bars, as JSON.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

from databases import empty_database

from tailorbird.auth import KeyFileSealer
from tailorbird.crypto import anchored_rows
from tailorbird.domain.deployment import Alias
from tailorbird.domain.event import Event
from tailorbird.domain.identity import ApiKey, Identity, Role, Tenant
from tailorbird.ledger import Ledger, open_ledger
from tailorbird.usecases.anchored_rows import demand_anchored

FULL, QUICK = 1_000_000, 100_000
BATCH, CHECKS = 1000, 300
PEOPLE, KEYS, NAMES = 200, 2_000, 50
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def bars_on(kind: str, url: str, workspace: Path, size: int) -> dict[str, dict[str, object]]:
    ledger = open_ledger(url, sealer=KeyFileSealer(workspace))
    ledger.migrate()
    for number, tenant in enumerate(("acme", *(f"tenant-{n}" for n in range(20)))):
        fill(ledger, tenant, number << 32, whole=tenant == "acme")
    grow(ledger, size)
    check, first, append = checks(ledger), checks(ledger, first=True), appends(ledger)
    ledger.close()
    said = f"check {check * 1000:.1f} ms, a process's first {first * 1000:.1f} ms, anchored append {append * 1000:.1f} ms"
    say(f"{kind}: {size:,} events, {said} (95th percentiles)")
    whole = size == FULL
    return {
        f"admission_check_{kind}": {
            "value": round(check, 4),
            "bar": 0.05,
            "unit": "s",
            "events": size,
            "in": "full",
            "holds": check <= 0.05 if whole else None,
        },
        f"first_admission_check_{kind}": {
            "value": round(first, 4),
            "bar": 0.05,
            "unit": "s",
            "events": size,
            "in": "full",
            "holds": first <= 0.05 if whole else None,
        },
        f"anchored_append_{kind}": {
            "value": round(append, 4),
            "bar": 0.05,
            "unit": "s",
            "events": size,
            "in": "full",
            "holds": append <= 0.05 if whole else None,
        },
    }


def fill(ledger: Ledger, tenant: str, first: int, *, whole: bool) -> None:
    """A tenant with its rows; its keys are numbered from ``first``."""
    with ledger.system() as system:
        system.tenants.add(Tenant(name=tenant, created_at=NOW))
    with ledger.work(tenant) as work:
        for number in range(PEOPLE if whole else 40):
            key = base64.b64encode(number.to_bytes(4, "big") * 8).decode()
            roles = frozenset({Role.APPROVER})
            work.identities.add(Identity(tenant=tenant, name=f"person-{number}", roles=roles, public_key=key, created_at=NOW))
        for number in range(KEYS if whole else 400):
            work.keys.add(ApiKey(id=f"{first + number:012x}", tenant=tenant, name="shop", secret_sha256="0" * 64, created_at=NOW))
        for number in range(NAMES):
            work.aliases.put(Alias(tenant=tenant, name=f"name-{number}", targets=(), moved_at=NOW, moved_by="operator"))


def grow(ledger: Ledger, size: int) -> None:
    """Fills the log with events that anchor nothing."""
    with ledger.system(write=False) as system:
        have = system.events.size()
    for start in range(have, size, BATCH):
        events = [
            Event(kind="access.denied", tenant="acme", actor="somebody", subject="run", at=NOW, data={"number": number})
            for number in range(start, min(start + BATCH, size))
        ]
        with ledger.system() as system:
            system.events.append(events)


def checks(ledger: Ledger, *, first: bool = False) -> float:
    """Seconds, at the 95th percentile; ``first``: of a process that has proven nothing yet."""
    seconds = []
    for number in range(CHECKS):
        if first:
            anchored_rows._proven.clear()
        start = time.perf_counter()
        with ledger.work("acme", write=False) as work:
            people = work.identities.all()
            names = work.aliases.all([f"name-{number % NAMES}"])
            demand_anchored(work, *people, *names)
        seconds.append(time.perf_counter() - start)
    return quantiles(seconds, n=20)[-1]


def appends(ledger: Ledger) -> float:
    """Seconds of a transaction that changes one anchored row, waits for the disk and seals the head, at the 95th percentile."""
    seconds = []
    for number in range(CHECKS):
        start = time.perf_counter()
        with ledger.work("acme") as work:
            known = work.identities.get(f"person-{number % PEOPLE}")
            work.identities.replace(known.model_copy(update={"disabled_at": NOW if known.disabled_at is None else None}))
            work.events.append([Event(kind="identity.disabled", tenant="acme", actor="admin", subject=known.name, at=NOW)])
        seconds.append(time.perf_counter() - start)
    return quantiles(seconds, n=20)[-1]


def say(text: str) -> None:
    """Progress, for whoever watches."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    found: dict[str, dict[str, object]] = {}
    for database in ("sqlite", "postgresql"):
        with empty_database(database) as address, tempfile.TemporaryDirectory(prefix="tb-keys-") as keys:
            found |= bars_on(database, address, Path(keys), QUICK if "--quick" in sys.argv else FULL)
    print(json.dumps(found))
