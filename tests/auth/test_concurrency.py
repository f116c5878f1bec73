"""Calls at once: so many in all, so many of a tenant, and a refusal that says which."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tailorbird.auth import ConcurrencyLimit
from tailorbird.domain.errors import Exhausted


def refused(limit: ConcurrencyLimit, tenant: str) -> Exhausted:
    with pytest.raises(Exhausted) as caught, limit.turn(tenant):
        pass
    assert caught.value.error_code == "at_once"
    assert caught.value.retry_after
    return caught.value


def test_so_many_of_a_tenant_and_so_many_in_all() -> None:
    limit = ConcurrencyLimit(3, 2, "files that are looked at", "at_once")
    with ExitStack() as stack:
        for tenant in ("acme", "acme", "globex"):
            stack.enter_context(limit.turn(tenant))
        assert "2 of acme" in refused(limit, "acme").message
        assert "3 in all" in refused(limit, "globex").message
    with limit.turn("acme"), limit.turn("acme"), limit.turn("globex"):
        pass


def test_a_call_that_fails_has_ended() -> None:
    limit = ConcurrencyLimit(1, 1, "files", "at_once")
    for _ in range(3):
        with pytest.raises(KeyError), limit.turn("acme"):
            raise KeyError
    with limit.turn("globex"):
        pass
