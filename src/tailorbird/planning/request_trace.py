"""Request trace of given traffic: who asks for what and when, drawn with a seed."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import exp, log
from random import Random
from typing import NamedTuple

from tailorbird.domain.serving_traffic import Arrivals, ServingTraffic, TokenCounts


class TracedRequest(NamedTuple):
    """A request: seconds of its arrival, numbers of its adapter and tenant, tokens of its prompt, how many of those all prompts of the
    adapter begin with, and tokens of its answer."""

    arrival: float
    adapter: int
    tenant: int
    prompt: int
    shared: int
    answer: int


def adapter_ranks(traffic: ServingTraffic) -> tuple[int, ...]:
    """The rank of each adapter."""
    ranks = traffic.adapters.ranks
    return tuple(ranks[number % len(ranks)] for number in range(traffic.adapters.count))


def adapter_shares(traffic: ServingTraffic) -> list[float]:
    """Which share of the requests is expected for each adapter; they sum to 1."""
    count, tenants = traffic.adapters.count, tuple(traffic.popularity.tenants.values()) or (1.0,)
    whole, found = sum(tenants[:count]), [0.0] * count
    for tenant, share in enumerate(tenants[:count]):
        weights = [1 / (place + 1) ** traffic.popularity.zipf for place in range(len(range(tenant, count, len(tenants))))]
        each = share / whole / sum(weights)
        found[tenant :: len(tenants)] = [each * weight for weight in weights]
    return found


def request_trace(traffic: ServingTraffic, seconds: float, seed: int = 0) -> list[TracedRequest]:
    """All requests that come within ``seconds``, in order. The same seed gives the same sizes and choices whatever the rate."""
    times, choices, sizes = Random(f"{seed} times"), Random(f"{seed} choices"), Random(f"{seed} sizes")
    popularity = _Popularity(traffic)
    found = []
    for arrival in _arrivals(traffic.arrivals, seconds, times):
        adapter, tenant = popularity.draw(choices)
        prompt = _tokens(traffic.prompt, sizes)
        found.append(
            TracedRequest(arrival, adapter, tenant, prompt, min(traffic.prompt.shared, prompt - 1), _tokens(traffic.answer, sizes))
        )
    return found


def _arrivals(arrivals: Arrivals, seconds: float, draw: Random) -> Iterator[float]:
    at = draw.expovariate(arrivals.per_second / arrivals.burst)
    while at < seconds:
        yield from [at] * arrivals.burst
        at += draw.expovariate(arrivals.per_second / arrivals.burst)


def _tokens(counts: TokenCounts, draw: Random) -> int:
    if counts.values:
        return draw.choice(counts.values)
    assert counts.mean is not None
    number = exp(log(counts.mean) - counts.spread**2 / 2 + counts.spread * draw.gauss(0, 1))
    return max(1, min(counts.most, round(number)))


class _Popularity:
    """Adapters dealt out to tenants in turn; within a tenant by Zipf's law."""

    def __init__(self, traffic: ServingTraffic) -> None:
        shares = tuple(traffic.popularity.tenants.values()) or (1.0,)
        count = traffic.adapters.count
        self._tenants = len(shares)
        # A tenant to which no adapter was dealt asks for nothing.
        self._shares = list(accumulate(share if tenant < count else 0.0 for tenant, share in enumerate(shares)))
        most = -(-count // self._tenants)
        self._weights = list(accumulate(1 / (place + 1) ** traffic.popularity.zipf for place in range(most)))
        self._count = count

    def draw(self, draw: Random) -> tuple[int, int]:
        """An adapter, and its tenant."""
        tenant = _chosen(self._shares, draw, self._tenants)
        owned = len(range(tenant, self._count, self._tenants))
        return tenant + self._tenants * _chosen(self._weights, draw, owned), tenant


def _chosen(summed: Sequence[float], draw: Random, count: int) -> int:
    """One of the first ``count`` places, by their weights, which are summed up."""
    return bisect(summed, draw.random() * summed[count - 1], 0, count - 1)
