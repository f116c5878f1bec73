"""What the gateway adds to a request: sequential requests with authentication, quotas, routing and a committed row, on one core.

The engine answers at once, so all that a caller waits for is the gateway and the way to it. A request of the same client to ``/healthz``,
which does nothing, is taken off: the client's own time and the way.
"""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection
from statistics import median, quantiles

from loading import CHAT, Lone, body, lone_gateway
from run import Bar, Measured

BARS: dict[str, Bar] = {"gateway_overhead_median_ms": (3.0, 1.0, "ms", True), "gateway_overhead_p99_ms": (8.0, 3.0, "ms", True)}


def measure(quick: bool) -> Measured:
    count = 500 if quick else 2000
    with lone_gateway() as lone:
        runs = [_run(lone, count) for _ in range(3)]
    medians, p99s = [run["median"] for run in runs], [run["p99"] for run in runs]
    values = {"gateway_overhead_median_ms": round(median(medians), 3), "gateway_overhead_p99_ms": round(median(p99s), 3)}
    return Measured(values, {"runs": runs, "requests_a_run": count, "with": "API key, four limits, routing, row committed (SQLite, fsync)"})


def _run(lone: Lone, count: int) -> dict[str, float]:
    connection = lone.connection()
    asked = body("acme/routing", "I lost my card and need another one before I travel on Monday")
    told: list[float] = []
    took, idle = [], []
    for number in range(count + 100):
        one, headers = _timed(connection, "POST", CHAT, asked, lone.head)
        nothing, _ = _timed(connection, "GET", "/healthz", None, {})
        if number >= 100:
            took.append(one)
            idle.append(nothing)
            told.append(float(headers["x-tailorbird-overhead-ms"]))
    way = median(idle)
    return {
        "median": round(median(took) - way, 3),
        "p99": round(quantiles(took, n=100)[98] - way, 3),
        "way": round(way, 3),
        "told_by_header_median": round(median(told), 3),
    }


def _timed(connection: HTTPConnection, method: str, path: str, content: bytes | None, head: dict[str, str]) -> tuple[float, dict[str, str]]:
    started = time.perf_counter()
    connection.request(method, path, content, head)
    answer = connection.getresponse()
    sent = answer.read()
    took = 1000 * (time.perf_counter() - started)
    assert answer.status == 200, json.loads(sent)
    return took, {name.lower(): value for name, value in answer.getheaders()}
