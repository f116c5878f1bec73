"""A flood of refused calls makes a few events and a count, not an event each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tailorbird.access import Action
from tailorbird.domain.errors import Forbidden
from tailorbird.lifecycle import Parts
from tailorbird.lifecycle.denials import MOST, Denials
from tailorbird.lifecycle.identities.people import act_as
from tailorbird.lifecycle.journal import permit, tell_denials

TENANT = "acme"
NOW = datetime(2026, 11, 27, tzinfo=UTC)


def denials(parts: Parts) -> list[dict[str, object]]:
    with parts.ledger.system(write=False) as system:
        return [dict(entry.event.data) for entry in system.events.entries() if entry.event.kind == "access.denied"]


def test_400_refused_calls_make_a_few_entries_and_a_count(parts: Parts) -> None:
    viewer = act_as(parts, TENANT, "viewer")
    for _ in range(400):
        with pytest.raises(Forbidden):
            permit(parts, viewer, Action.WORK, "run")
    assert len(denials(parts)) == MOST
    tell_denials(parts)
    assert len(denials(parts)) == MOST, "the minute is not over"
    tell_denials(parts, all_of_them=True)
    *_, flood = told = denials(parts)
    assert len(told) == MOST + 1
    assert (flood["code"], flood["count"]) == ("flood", 400 - MOST)
    tell_denials(parts, all_of_them=True)
    assert len(denials(parts)) == MOST + 1


def test_actors_and_minutes_are_counted_apart() -> None:
    counted = Denials()
    assert sum(counted.is_written(TENANT, "a", NOW) for _ in range(50)) == MOST
    assert counted.is_written(TENANT, "b", NOW)
    assert counted.is_written("other", "a", NOW)
    later = NOW + timedelta(seconds=61)
    assert counted.is_written(TENANT, "a", later)
    assert [(one.actor, one.denied) for one in counted.take(later)] == [("a", 40)]
    assert counted.take(None) == []
