"""The states of a progressive rollout, and its plan: order of the steps, and steps in the words of earlier versions."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tailorbird.domain.errors import Conflict
from tailorbird.domain.rollout import OPEN, TRANSITIONS, RolloutAction, RolloutPlan, RolloutState, next_rollout_state


@pytest.mark.parametrize("state", sorted(OPEN))
def test_an_open_rollout_can_be_rolled_back_and_promoted(state: RolloutState) -> None:
    assert next_rollout_state(state, RolloutAction.ROLL_BACK) is RolloutState.ROLLED_BACK
    assert next_rollout_state(state, RolloutAction.PROMOTE) is RolloutState.PROMOTED


def test_an_ended_one_stays_as_it_is() -> None:
    for state in set(RolloutState) - OPEN:
        for action in RolloutAction:
            with pytest.raises(Conflict) as refused:
                next_rollout_state(state, action)
            assert refused.value.error_code == "rollout_state"


def test_a_held_one_advances_only_after_it_was_resumed() -> None:
    with pytest.raises(Conflict):
        next_rollout_state(RolloutState.HELD, RolloutAction.ADVANCE)
    assert next_rollout_state(RolloutState.HELD, RolloutAction.RESUME) is RolloutState.RUNNING
    assert TRANSITIONS[RolloutState.RUNNING, RolloutAction.ADVANCE] is RolloutState.RUNNING


@pytest.mark.parametrize("kinds", [("shadow",), ("live", "shadow"), ("shadow", "live", "shadow"), ("bold",)])
def test_shadow_steps_come_before_live_ones_and_one_is_live(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        RolloutPlan.model_validate({"steps": [{"kind": kind} for kind in kinds]})
