"""What every ledger must do with request rows, sums over them and readings."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import timedelta

import pytest

import support.ledger_samples as sample
from support.ledger_samples import START, digest
from tailorbird.domain.deployment import FALLBACK, FORGOTTEN, RequestRow, Traffic


def expected_traffic(rows: Sequence[RequestRow]) -> tuple[Traffic, ...]:
    """``RequestRepository.traffic`` in plain Python."""
    groups: dict[tuple[str, str], list[RequestRow]] = {}
    for row in rows:
        groups.setdefault((row.alias, row.release or ""), []).append(row)
    return tuple(expected_sums(groups[key]) for key in sorted(groups))


def expected_sums(rows: Sequence[RequestRow]) -> Traffic:
    latencies = sorted(row.latency_ms for row in rows if row.outcome != "refused") or [0.0]
    outcomes = [row.outcome for row in rows]
    return Traffic(
        release=rows[0].release,
        alias=rows[0].alias,
        requests=len(rows),
        ok=outcomes.count("ok"),
        errors=outcomes.count("error"),
        refused=outcomes.count("refused"),
        aborted=outcomes.count("aborted"),
        stood_in=sum(row.arm == FALLBACK for row in rows),
        latency_p50_ms=latencies[math.ceil(0.50 * len(latencies)) - 1],
        latency_p95_ms=latencies[math.ceil(0.95 * len(latencies)) - 1],
        prompt_tokens=sum(row.prompt_tokens for row in rows),
        completion_tokens=sum(row.completion_tokens for row in rows),
        cost=sum(row.cost - (row.paid if row.arm == FALLBACK else 0.0) for row in rows),
        first=min(row.at for row in rows),
        last=max(row.at for row in rows),
    )


def any_request(tenant: str, n: int, rng: random.Random) -> RequestRow:
    """One of two aliases, two releases or none; costs in quarters, so that sums are exact in any order."""
    return sample.request(tenant, n).model_copy(
        update={
            "alias": rng.choice(["acme/routing", "acme/reply"]),
            "release": rng.choice([digest("old"), digest("new"), None]),
            "outcome": rng.choice(["ok", "ok", "ok", "error", "refused", "aborted"]),
            "latency_ms": rng.choice([0.5, 10.0, 12.25, 900.125]) * rng.randint(1, 9),
            "prompt_tokens": rng.randint(0, 2_000_000_000),
            "completion_tokens": rng.randint(0, 500),
            "cost": 1 + rng.randint(0, 8) / 4,
            "arm": rng.choice(["a", "fallback"]),
            "paid": rng.randint(0, 4) / 4,
        }
    )


class TestRequests:
    def test_an_open_row_is_settled_once(self, ledger):
        """Until then nothing is known of how long it took; of one whose person was forgotten meanwhile nothing comes back."""
        rows = {n: sample.request("acme", n).model_copy(update={"outcome": "open", "unit": f"u{n}", "latency_ms": 1.0}) for n in (1, 2)}
        ended = {n: row.model_copy(update={"outcome": "ok", "latency_ms": 700.0}) for n, row in rows.items()}
        with ledger.work("acme") as work:
            work.requests.add(list(rows.values()))
            (before,) = work.requests.traffic(START, START + timedelta(hours=1))
            assert (before.requests, before.ok, before.errors, before.latency_p50_ms) == (2, 0, 0, 0.0)
            assert work.requests.settle(ended[1])
            assert not work.requests.settle(ended[1])
            assert not work.requests.settle(sample.request("acme", 3))
            assert work.requests.get(rows[1].id) == ended[1]
            work.requests.forget([rows[2].id])
            assert not work.requests.settle(ended[2])
            assert work.requests.get(rows[2].id).unit == FORGOTTEN
            (after,) = work.requests.traffic(START, START + timedelta(hours=1))
            assert (after.requests, after.ok, after.latency_p50_ms) == (2, 1, 700.0)

    def test_what_an_endpoint_was_paid(self, ledger):
        paid = [
            ("outside", 0.25, "shadow", 1),
            ("outside", 0.5, "fallback", 2),
            ("outside", 1.0, "a", 3),
            ("other", 2.0, "a", 3),
            ("", 0.0, "a", 4),
        ]
        rows = [
            sample.request("acme", n).model_copy(update={"id": f"r-{n}-{endpoint}", "endpoint": endpoint, "paid": money, "arm": arm})
            for endpoint, money, arm, n in paid
        ]
        with ledger.work("acme") as work:
            work.requests.add(rows)
        with ledger.work("globex") as work:
            work.requests.add([sample.request("globex", 1).model_copy(update={"endpoint": "outside", "paid": 8.0})])
        with ledger.work("acme", write=False) as work:
            assert work.requests.get("r-2-outside").paid == 0.5
            assert work.usage.paid("outside", START) == 1.75
            assert work.usage.paid("outside", START + timedelta(seconds=2)) == 1.5
            assert work.usage.paid("outside", START + timedelta(seconds=9)) == 0.0
            assert work.usage.paid("nobody", START) == 0.0
            assert work.usage.paid("", START) == 0.0

    def test_the_oldest_rows_go_with_all_that_hangs_on_them(self, ledger):
        for tenant in ("acme", "globex"):
            with ledger.work(tenant) as work:
                work.requests.add([sample.request(tenant, n) for n in range(1, 7)])
                for name in ("request-1", "request-4", "request-5"):
                    work.feedback.put(sample.feedback(tenant).model_copy(update={"request": name}))
                    work.reviews.add([sample.review(tenant, name)])
                    work.contents.add([sample.content(tenant).model_copy(update={"request": name})])
        before = sample.request("acme", 5).at
        with ledger.work("acme") as work:
            assert work.requests.purge(START, 10) == 0
            assert work.requests.purge(before, 3) == 3
            assert [row.id for row in work.requests.latest()] == ["request-6", "request-5", "request-4"]
            assert work.requests.purge(before, 3) == 1
            assert work.requests.purge(before, 3) == 0
            assert [row.id for row in work.requests.latest()] == ["request-6", "request-5"]
            assert work.feedback.of("request-4") == ()
            assert len(work.feedback.of("request-5")) == 1
            assert [kept.request for kept in work.contents.page("", 9)] == ["request-5"]
            assert [one.request for one in work.reviews.waiting()] == ["request-5"]
        with ledger.work("globex", write=False) as work:
            assert (len(work.requests.latest()), work.reviews.count(), len(work.contents.page("", 9))) == (6, 3, 3)

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(
        "n",
        [
            1,
            400,
        ],
    )
    def test_traffic_is_what_the_rows_say(self, ledger, seed, n):
        rng = random.Random(seed)
        rows = [any_request("acme", second, rng) for second in range(n)]
        with ledger.work("globex") as work:
            work.requests.add([any_request("globex", second, rng) for second in range(n)])
        with ledger.work("acme") as work:
            work.requests.add(rows)
        with ledger.work("acme", write=False) as work:
            assert work.requests.traffic(START, START + timedelta(days=1)) == expected_traffic(rows)
