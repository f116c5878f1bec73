"""The states of a progressive rollout, and its plan: order of the steps, and steps in the words of earlier versions."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tailorbird.domain.rollout import OPEN, RolloutAction, RolloutPlan, RolloutState, next_rollout_state


@pytest.mark.parametrize("state", sorted(OPEN))
def test_an_open_rollout_can_be_rolled_back_and_promoted(state: RolloutState) -> None:
    assert next_rollout_state(state, RolloutAction.ROLL_BACK) is RolloutState.ROLLED_BACK
    assert next_rollout_state(state, RolloutAction.PROMOTE) is RolloutState.PROMOTED


@pytest.mark.parametrize("kinds", [("shadow",), ("live", "shadow"), ("shadow", "live", "shadow"), ("bold",)])
def test_shadow_steps_come_before_live_ones_and_one_is_live(kinds: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        RolloutPlan.model_validate({"steps": [{"kind": kind} for kind in kinds]})
