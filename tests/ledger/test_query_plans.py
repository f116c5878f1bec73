"""Plans of what pages and reports ask of request rows: each finds them by an index, however many there are, and none sorts them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.pool import NullPool

import support.ledger_samples as sample
from support.ledger_samples import START, digest
from support.postgresql import as_user
from tailorbird.domain.feedback import Feedback, FeedbackKind
from tailorbird.ledger import Ledger, UnitOfWork, open_ledger

#: Tables that grow with every request.
GROWING = {"requests", "feedback", "reviews", "contents"}
ROWS = 600
NOW = START + timedelta(days=60)
DAY = NOW - timedelta(days=1)

QUESTIONS: dict[str, Callable[[UnitOfWork], object]] = {
    "newest requests": lambda work: work.requests.latest(50),
    "requests, far back": lambda work: work.requests.latest(50, DAY),
    "newest requests of a release": lambda work: work.requests.latest(50, release=digest("new")),
    "a request": lambda work: work.requests.get("req_1"),
    "traffic": lambda work: work.requests.traffic(DAY, NOW),
    "paid": lambda work: work.usage.paid("hosted", DAY),
    "what was said of a request": lambda work: work.feedback.of("req_1"),
    "marks": lambda work: work.feedback.marks(digest("new"), DAY),
    "labels": lambda work: work.feedback.labels("", 50),
    "words, a page": lambda work: work.contents.page("", 50),
    "tallies": lambda work: work.rollouts.tallies("acme/routing", 3, START + timedelta(days=30)),
    "live KPIs": lambda work: work.rollouts.votes("acme/routing", digest("new")),
    "answers that wait": lambda work: (work.reviews.waiting(50), work.reviews.count()),
    "rows to be deleted": lambda work: work.requests.purge(START, 50),
}


@pytest.fixture(scope="module")
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A database of each kind with request rows of two months, whose statistics are known, by its kind."""
    made = {}
    for kind in ("sqlite", "postgresql"):
        made[kind] = request.getfixturevalue(f"fresh_{kind}")(tmp_path_factory.mktemp(kind))
        with closing(open_ledger(made[kind])) as ledger, ledger.work("acme") as work:
            _fill(work)
        with create_engine(as_user(made[kind]), poolclass=NullPool).begin() as connection:
            connection.execute(text("ANALYZE"))
    return made


def _fill(work: UnitOfWork) -> None:
    draw = random.Random(1)
    rows = [
        sample.request("acme", number).model_copy(
            update={
                "id": f"req_{number}",
                "at": START + timedelta(hours=2.4 * number),
                "release": digest("new" if number > ROWS / 2 else "old"),
                "version": 1 + 4 * number // ROWS,
                "alias": draw.choice(["acme/routing", "acme/reply"]),
            }
        )
        for number in range(ROWS)
    ]
    work.requests.add(rows)
    for row in rows[::5]:
        kind = FeedbackKind.LABEL if row.id.endswith("0") else FeedbackKind.THUMB
        score = None if kind is FeedbackKind.LABEL else 1.0
        work.feedback.put(Feedback(tenant="acme", request=row.id, kind=kind, source="user", value="up", score=score, at=row.at))


def plans(url: str, question: Callable[[UnitOfWork], object]) -> list[tuple[str, str]]:
    """Each statement that a question takes, with its plan."""
    found: list[tuple[str, str]] = []

    def told(connection: Connection, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.startswith(("SELECT", "DELETE", "UPDATE")) and not many and "set_config" not in statement:
            cursor = connection.connection.cursor()  # the other one may be a stream on the server
            cursor.execute(("EXPLAIN (FORMAT JSON) " if postgresql else "EXPLAIN QUERY PLAN ") + statement, parameters)
            plan = cursor.fetchall()
            found.append((statement, json.dumps(plan[0][0]) if postgresql else "\n".join(step[3] for step in plan)))

    postgresql = url.startswith("postgresql")
    with closing(open_ledger(url)) as ledger:
        assert isinstance(ledger, Ledger)
        with ledger.work("acme") as work:
            connection = work.requests._connection  # type: ignore[attr-defined]
            if postgresql:
                # So few rows are read faster than an index: what is asked here is which index serves, where there are many.
                connection.execute(text("SET LOCAL enable_seqscan = off"))
                for cost in ("min_parallel_table_scan_size", "min_parallel_index_scan_size", "parallel_setup_cost", "parallel_tuple_cost"):
                    connection.execute(text(f"SET LOCAL {cost} = 0"))
            event.listen(connection, "before_cursor_execute", told)
            question(work)
            event.remove(connection, "before_cursor_execute", told)
    return found


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_rows_are_found_by_an_index(filled: dict[str, str], database: str, name: str) -> None:
    asked = plans(filled[database], QUESTIONS[name])
    assert asked
    for statement, plan in asked:
        found = list(_reads_of_postgresql(json.loads(plan)) if database == "postgresql" else _reads_of_sqlite(plan))
        page = "LIMIT" in statement and "TEMP B-TREE" not in plan and '"Sort"' not in plan
        # The tenant alone says nothing: it may have all rows. A page ends after so many.
        assert all(" AND " in key or (page and key) for key in found), (statement, plan)


def test_what_is_asked_often_is_planned_for_what_is_asked(filled: dict[str, str]) -> None:
    """Not once for any tenant, release and time, as the server does from the sixth time on with what a driver has prepared."""
    with closing(open_ledger(filled["postgresql"])) as ledger:
        for _ in range(15):
            with ledger.work("acme", write=False) as work:
                QUESTIONS["tallies"](work)
        with ledger.work("acme", write=False) as work:
            connection = work.requests._connection  # type: ignore[attr-defined]
            prepared = connection.execute(
                text("SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement LIKE '%requests%'")
            )
            counted = prepared.all()
    assert counted
    assert sum(row.custom_plans for row in counted) > 5
    assert sum(row.generic_plans for row in counted) == 0


def _reads_of_sqlite(plan: str) -> Iterator[str]:
    """By what each growing table is searched; nothing where all of it, or of an index, is read."""
    for line in plan.splitlines():
        words = line.split()
        if words[:1] in (["SCAN"], ["SEARCH"]) and words[1] in GROWING:
            yield line.partition("(")[2] if words[0] == "SEARCH" else ""


def _reads_of_postgresql(plan: Any) -> Iterator[str]:
    """The condition by which an index is searched for each growing table; nothing where all of it is read."""
    if isinstance(plan, list):
        for each in plan:
            yield from _reads_of_postgresql(each)
    elif isinstance(plan, dict):
        node = plan.get("Node Type")
        if node == "Bitmap Index Scan" or (plan.get("Relation Name") in GROWING and node not in ("Bitmap Heap Scan", "ModifyTable")):
            yield plan.get("Index Cond", "")
        for each in plan.values():
            yield from _reads_of_postgresql(each)
