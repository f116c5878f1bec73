"""A flood of refused calls makes a few events and a count, not an event each."""

from __future__ import annotations

import pytest

from tailorbird.auth import Action
from tailorbird.domain.errors import Forbidden
from tailorbird.usecases import Dependencies
from tailorbird.usecases.audit_events import permit, tell_denials
from tailorbird.usecases.dependencies import MOST
from tailorbird.usecases.identities import act_as

TENANT = "acme"


def denials(deps: Dependencies) -> list[dict[str, object]]:
    with deps.ledger.system(write=False) as system:
        return [dict(entry.event.data) for entry in system.events.entries() if entry.event.kind == "access.denied"]


def test_400_refused_calls_make_a_few_entries_and_a_count(deps: Dependencies) -> None:
    viewer = act_as(deps, TENANT, "viewer")
    for _ in range(400):
        with pytest.raises(Forbidden):
            permit(deps, viewer, Action.WORK, "run")
    assert len(denials(deps)) == MOST
    tell_denials(deps)
    assert len(denials(deps)) == MOST, "the minute is not over"
    tell_denials(deps, all_of_them=True)
    *_, flood = told = denials(deps)
    assert len(told) == MOST + 1
    assert (flood["code"], flood["count"]) == ("flood", 400 - MOST)
    tell_denials(deps, all_of_them=True)
    assert len(denials(deps)) == MOST + 1
