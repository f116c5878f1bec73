"""Pages and reports over 1,000,000 and over 5,000,000 request rows, and what taking the oldest million away takes; SQLite and PostgreSQL.

In: one tenant whose names are asked 33,333 times a day, for 30 days and then for 150 (``--quick``: a fiftieth of it); feedback on a
twentieth of the rows, half of the rows of known users, a new release of every name each month. Both databases write the rows themselves.
Out, for each database: how many times longer the slowest question takes over five times the history, by the medians of ``ROUNDS`` and with
a millisecond added to both, so that what takes none does not decide; the same after the oldest million rows were deleted as retention does
it, a transaction of ``purge`` after the other, at once and after the vacuum that is due then; and how long these transactions were, for
writers wait for each. The bar is of what lasts, after the vacuum; what is found at once, with it beside, is told.

What is asked is what pages and reports ask of the record, through its repositories. The last line of stdout has the bars, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from databases import KINDS, empty_database
from sqlalchemy import create_engine, make_url, text

from tailorbird.domain.identity import Tenant
from tailorbird.ledger import Ledger, UnitOfWork, open_ledger
from tailorbird.usecases.tenants import PURGED_AT_ONCE

FULL, QUICK = 1_000_000, 20_000
TIMES, DAYS, NAMES, ROUNDS = 5, 30, 3, 5
BAR, BAR_TRANSACTION = 1.25, 0.25
NOW = datetime(2026, 7, 1, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1000

#: A question to the record.
Question = Callable[[UnitOfWork], object]


def say(what: str) -> None:
    """Progress, for whoever watches."""
    print(what, file=sys.stderr, flush=True)


def fill(url: str, rows: int, first: int, last: int) -> None:
    """Writes rows ``first`` to ``last`` of ``TIMES * rows``, the oldest first, with what was said of them."""
    sqlite = make_url(url).drivername.startswith("sqlite")
    seconds = f"({TIMES * rows} - n) * {DAYS * 86400 / rows}"
    month = f"((n * {TIMES} - 1) / {TIMES * rows})"
    own = {
        "tenant": "'acme'",
        "id": _id(rows, sqlite),
        "key": "'robot'",
        "alias": f"'acme/name-' || (n % {NAMES})",
        "release": f"'sha256:' || {_number(month, 60, sqlite)} || {_number(f'n % {NAMES}', 4, sqlite)}",
        "version": month,
        "arm": "'a'",
        "route": "'/v1/chat/completions'",
        "status": "200",
        "outcome": "CASE WHEN n % 50 = 49 THEN 'refused' ELSE 'ok' END",
        "prediction": "'refund'",
        "prompt_tokens": "40",
        "completion_tokens": "12",
        "latency_ms": "20.0 + (n * 7919) % 1000 / 7.0",
        "at": _moment(seconds, sqlite),
        "unit": f"CASE WHEN n % 2 = 0 THEN {_number('n % 10007', 16, sqlite)} ELSE '' END",
        "characters": "120",
    }
    nothing = {"sketch": "''", "endpoint": "''", "cost": "0.001", "paid": "0"}
    flags = dict.fromkeys(("malformed", "referred", "out_of_scope"), "0" if sqlite else "false")
    values = own | nothing | flags
    said = {
        "tenant": "'acme'",
        "request": own["id"],
        "kind": "CASE WHEN n % 1000 = 7 THEN 'label' ELSE 'thumb' END",
        "source": "'user'",
        "value": "'up'",
        "score": "n % 3 / 2.0",
        "at": own["at"],
    }
    numbers = (
        f"WITH RECURSIVE c(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM c WHERE n < {last})"
        if sqlite
        else f"WITH c(n) AS (SELECT generate_series({first}::bigint, {last}::bigint))"
    )
    engine = create_engine(url)
    with engine.begin() as connection:
        for table, columns, chosen in (("requests", values, ""), ("feedback", said, " WHERE n % 20 = 7")):
            connection.execute(
                text(f"INSERT INTO {table} ({', '.join(columns)}) {numbers} SELECT {', '.join(columns.values())} FROM c{chosen}")
                if not sqlite
                else text(f"{numbers} INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())} FROM c{chosen}")
            )
    engine.dispose()
    vacuum(url)


def vacuum(url: str) -> None:
    """What the server does by itself after many changes; of SQLite, which gives pages away at once, its counts alone."""
    engine = create_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE" if make_url(url).drivername.startswith("sqlite") else "VACUUM ANALYZE"))
    engine.dispose()


def _id(rows: int, sqlite: bool) -> str:
    """As a gateway makes them (``new_request_id``): when it was, then what nobody can foresee."""
    when = _number(f"{NOW_MS} - ({TIMES * rows} - n) * {DAYS * 86_400_000 // rows}", 12, sqlite)
    return f"'req_' || {when} || '7' || {_number('n * 2654435761 % 4294967296', 8, sqlite)} || {_number('n', 11, sqlite)}"


def _number(expression: str, digits: int, sqlite: bool) -> str:
    return f"printf('%0{digits}x', {expression})" if sqlite else f"lpad(to_hex(({expression})::bigint), {digits}, '0')"


def _moment(seconds_ago: str, sqlite: bool) -> str:
    if sqlite:
        return f"strftime('%Y-%m-%d %H:%M:%f', '{NOW:%Y-%m-%d %H:%M:%S}', '-' || ({seconds_ago}) || ' seconds') || '000'"
    return f"TIMESTAMPTZ '{NOW:%Y-%m-%d %H:%M:%S}+00' - make_interval(secs => {seconds_ago})"


def questions(rows: int) -> dict[str, Question]:
    """What pages and reports ask, by name."""
    release = f"sha256:{TIMES - 1:060x}{1:04x}"
    last = f"req_{NOW_MS:012x}7{TIMES * rows * 2654435761 % 4294967296:08x}{TIMES * rows:011x}"
    day, half, month = (NOW - timedelta(days=days) for days in (1, DAYS / 2, DAYS))
    return {
        "newest requests": lambda work: work.requests.latest(50),
        "requests, far back": lambda work: work.requests.latest(50, half),
        "one request and what was said of it": lambda work: (work.requests.get(last), work.feedback.of(last)),
        "traffic, 15 minutes": lambda work: work.requests.traffic(NOW - timedelta(minutes=15), NOW),
        "traffic, 24 hours": lambda work: work.requests.traffic(day, NOW),
        "drift: the newest 2,000 of a release": lambda work: work.requests.latest(2_000, release=release),
        "drift: marks of a day": lambda work: work.feedback.marks(release, day),
        "experiment: tallies of a version": lambda work: work.rollouts.tallies("acme/name-1", TIMES - 1, month),
        "live KPIs of a release": lambda work: work.rollouts.votes("acme/name-1", release),
        "labels, a page": lambda work: work.feedback.labels("", 500),
        "answers that wait": lambda work: (work.reviews.waiting(50), work.reviews.count()),
        "paid this month": lambda work: (work.usage.paid("hosted", month),),
    }


def ask(ledger: Ledger, rows: int) -> dict[str, float]:
    """The median milliseconds of each question, after each was asked once."""
    found = {}
    for question in questions(rows).values():
        with ledger.work("acme", write=False) as work:
            question(work)
    for name, question in questions(rows).items():
        times = []
        for _ in range(ROUNDS + 1):
            started = time.perf_counter()
            with ledger.work("acme", write=False) as work:
                answer = question(work)
            assert answer, name
            times.append(1000 * (time.perf_counter() - started))
        found[name] = round(median(times[1:]), 2)
        say(f"  {name}: {found[name]} ms")
    return found


def purge(ledger: Ledger) -> list[float]:
    """Seconds of each transaction that took rows away."""
    before, taken = NOW - timedelta(days=DAYS * (TIMES - 1)), []
    while True:
        started = time.perf_counter()
        with ledger.work("acme") as work:
            gone = work.requests.purge(before, PURGED_AT_ONCE)
        if not gone:
            return taken
        taken.append(time.perf_counter() - started)
        if len(taken) % 100 == 0:
            say(f"  {len(taken) * PURGED_AT_ONCE:,} rows are gone after {sum(taken):.0f} s")


def bars_on(kind: str, rows: int) -> dict[str, Any]:
    """The bars of a database of ``kind``."""
    seconds, found, taken = {}, {}, []
    # In two databases, for rows lie in the order in which they were written: the newest do not come first.
    for name, first in (("small", (TIMES - 1) * rows + 1), ("large", 1)):
        with empty_database(kind) as url, closing(open_ledger(url)) as ledger:
            ledger.migrate()
            with ledger.system() as system:
                system.tenants.add(Tenant(name="acme", created_at=NOW - timedelta(days=200)))
            started = time.perf_counter()
            fill(url, rows, first, TIMES * rows)
            seconds[name] = round(time.perf_counter() - started)
            say(f"{kind}: {TIMES * rows - first + 1:,} rows after {seconds[name]} s")
            found[name] = ask(ledger, rows)
            if name == "large":
                taken = purge(ledger)
                say(f"{kind}: {rows:,} rows were taken away in {sum(taken):.0f} s by {len(taken)} transactions")
                found["at once"] = ask(ledger, rows)
                vacuum(url)
                say(f"{kind}: vacuumed")
                found["after"] = ask(ledger, rows)
    ratios = {name: round((found["large"][name] + 1) / (found["small"][name] + 1), 2) for name in found["small"]}
    after, at_once = (
        {name: round((found[when][name] + 1) / (found["small"][name] + 1), 2) for name in found["small"]} for when in ("after", "at once")
    )
    told = {"rows": rows, "times": TIMES, "ms": found, "fill_seconds": seconds}
    longest = sorted(taken)[-(-len(taken) * 99 // 100) - 1]
    full = rows == FULL
    return {
        f"five_times_the_rows_{kind}": {"value": max(ratios.values()), "bar": BAR, "unit": "ratio", "less_is_better": True}
        | {"holds": max(ratios.values()) <= BAR if full else None, "in": "full", "ratios": ratios}
        | told,
        f"after_retention_{kind}": {"value": max(after.values()), "bar": BAR, "unit": "ratio", "less_is_better": True}
        | {"holds": max(after.values()) <= BAR if full else None, "in": "full", "ratios": after}
        | {"at_once": at_once},
        f"retention_transaction_p99_{kind}": {"value": round(longest, 3), "bar": BAR_TRANSACTION, "unit": "s", "less_is_better": True}
        | {"holds": longest <= BAR_TRANSACTION if full else None, "in": "full", "p50": round(median(taken), 4)}
        | {"rows_taken": rows, "seconds": round(sum(taken), 1), "rows_a_transaction": PURGED_AT_ONCE},
    }


def main() -> None:
    """Measures, and prints the bars. A database may be named."""
    rows = QUICK if "--quick" in sys.argv else FULL
    kinds = [kind for kind in KINDS if kind in sys.argv] or KINDS
    print(json.dumps({name: bar for kind in kinds for name, bar in bars_on(kind, rows).items()}))


if __name__ == "__main__":
    main()
