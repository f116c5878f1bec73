"""State machines: what a refused transition says."""

from __future__ import annotations

import pytest

from tailorbird.domain.errors import Conflict
from tailorbird.domain.release import TRANSITIONS, ReleaseAction, ReleaseState
from tailorbird.domain.value import transition


def test_a_transition_of_the_table_is_taken() -> None:
    assert transition(TRANSITIONS, ReleaseState.STAGED, ReleaseAction.TRY, "release") is ReleaseState.ROLLING_OUT


@pytest.mark.parametrize(
    ("state", "said", "allowed"),
    [
        (ReleaseState.ROLLING_OUT, "a release that is rolling out cannot pass gate", "promote, supersede, withdraw"),
        (ReleaseState.RETIRED, "a release that is retired cannot pass gate", "nothing: the state is final"),
    ],
)
def test_what_is_refused_names_what_is_possible(state: ReleaseState, said: str, allowed: str) -> None:
    with pytest.raises(Conflict) as refused:
        transition(TRANSITIONS, state, ReleaseAction.PASS_GATE, "release")
    assert (refused.value.error_code, str(refused.value)) == ("release_state", said)
    assert refused.value.hint.endswith(f"one can: {allowed}")
