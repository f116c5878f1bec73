"""Request ids: UUIDs of version 7, in the order of time, none twice."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest

from support.clocks import replace_clock
from tailorbird.system import request_id

#: 2026-07-01 in milliseconds.
DAY_MS = 1_782_864_000_000


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The milliseconds since 1970 at which ids are made."""
    now = [DAY_MS]
    replace_clock(monkeypatch, request_id, time_ns=lambda: now[0] * 1_000_000 + 999_999)
    return now


def test_an_id_is_a_uuid_that_begins_with_its_time(at: list[int]) -> None:
    told, digits = request_id.new_request_id().split("_")
    found = UUID(digits)
    assert (told, len(digits), found.version, found.variant) == ("req", 32, 7, RFC_4122)
    assert found.int >> 80 == at[0]
