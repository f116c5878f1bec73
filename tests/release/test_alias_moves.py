"""An alias moves one version at a time, and remembers one step back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.release import NOW, release
from tailorbird.domain.deployment import AliasTarget
from tailorbird.domain.errors import Conflict
from tailorbird.domain.release import ReleaseState
from tailorbird.release import promoted, rolled_back

LATER = NOW + timedelta(hours=1)
ONE, TWO = release(ReleaseState.STAGED), release(ReleaseState.STAGED, "full")


def test_a_first_promotion_makes_the_alias() -> None:
    alias = promoted(None, ONE, NOW, "operator")
    assert alias.path == "acme/desk"
    assert alias.targets == (AliasTarget(release=ONE.digest),)
    assert (alias.previous, alias.version, alias.moved_by, alias.moved_at) == ((), 1, "operator", NOW)


def test_a_rollback_undoes_the_last_promotion() -> None:
    first = promoted(None, ONE, NOW, "operator")
    second = promoted(first, TWO, LATER, "operator")
    assert (second.targets, second.previous, second.version) == ((AliasTarget(release=TWO.digest),), first.targets, 2)
    back = rolled_back(second, LATER, "other")
    assert (back.targets, back.previous, back.version, back.moved_by) == (first.targets, (), 3, "other")
    assert second.targets == (AliasTarget(release=TWO.digest),)


def test_a_rollback_without_a_release_before_withdraws_once() -> None:
    withdrawn = rolled_back(promoted(None, ONE, NOW, "operator"), LATER, "operator")
    assert (withdrawn.targets, withdrawn.version) == ((), 2)
    with pytest.raises(Conflict) as caught:
        rolled_back(withdrawn, LATER, "operator")
    assert caught.value.error_code == "conflict"
    again = promoted(withdrawn, TWO, LATER, "operator")
    assert (again.previous, again.version) == ((), 3)


def test_no_other_release_is_promoted() -> None:
    for state in set(ReleaseState) - {ReleaseState.STAGED, ReleaseState.ROLLING_OUT}:
        with pytest.raises(Conflict):
            promoted(None, release(state), NOW, "operator")


def test_an_alias_of_another_objective_is_left_alone() -> None:
    other = promoted(None, ONE, NOW, "operator").model_copy(update={"name": "elsewhere"})
    with pytest.raises(Conflict) as caught:
        promoted(other, TWO, NOW, "operator")
    assert caught.value.error_code == "conflict"
