"""The states of a release."""

from __future__ import annotations

import pytest

from tailorbird.domain.errors import Conflict
from tailorbird.domain.release import TRANSITIONS, ReleaseAction, ReleaseState, next_state


def test_every_state_is_reached_and_none_leads_back_to_the_gate() -> None:
    reached = {next_state(state, action) for state, action in TRANSITIONS}
    begins = {state for state, _ in TRANSITIONS} - reached
    assert len(begins) == 1
    assert reached | begins == set(ReleaseState)


def test_production_needs_approval_and_staging_before() -> None:
    before = {state for (state, _), after in TRANSITIONS.items() if after is ReleaseState.PRODUCTION}
    assert before == {ReleaseState.STAGED, ReleaseState.ROLLING_OUT}
    assert {state for (state, action) in TRANSITIONS if action is ReleaseAction.STAGE} == {ReleaseState.APPROVED}


def test_what_is_rejected_stays_rejected() -> None:
    with pytest.raises(Conflict) as refused:
        next_state(ReleaseState.REJECTED, ReleaseAction.PROMOTE)
    assert refused.value.error_code == "release_state"
