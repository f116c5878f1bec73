"""A drill moves the alias of its objective in staging and no other, whatever names stand beside it."""

from __future__ import annotations

import pytest

from support.serving import make_release
from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.errors import Conflict, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.releases import rollouts as drill
from tailorbird.usecases.releases.release_queries import list_aliases
from tailorbird.usecases.runs.queries import list_objectives


def add(deps: Dependencies, number: int, name: str, state: ReleaseState) -> Release:
    """A release of the objective ``name``; in production it answers the name."""
    made = make_release("acme", number, TaskKind.CLASSIFY, deps.clock.now(), objective_name=name)
    release = made.model_copy(update={"state": state})
    with deps.ledger.work("acme") as work:
        work.releases.add(release)
        if state is ReleaseState.PRODUCTION:
            targets = (AliasTarget(release=release.digest),)
            work.aliases.put(Alias(tenant="acme", name=name, targets=targets, moved_at=deps.clock.now(), moved_by="olga"))
    return release


def rehearse(deps: Dependencies, operator: Actor, release: Release, patience: float = drill.PATIENCE) -> drill.Drill:
    """With one gateway, which follows as long as somebody has patience."""

    def follow(_seconds: float) -> None:
        if patience:
            with deps.ledger.system() as system:
                system.gateways.beat("g", system.tenants.aliases_moved(), deps.clock.now())

    with deps.ledger.system() as system:
        system.gateways.beat("g", 0, deps.clock.now())
    return drill.rehearse(deps, operator, release.digest, patience, follow)


def production(deps: Dependencies) -> dict[str, Alias]:
    with deps.ledger.work("acme", write=False) as work:
        return {alias.name: alias for alias in work.aliases.all()}


def test_a_drill_needs_a_gateway(deps: Dependencies, operator: Actor) -> None:
    with pytest.raises(Conflict) as refused:
        drill.drill_release(deps, operator, add(deps, 1, "desk", ReleaseState.STAGED).digest)
    assert refused.value.error_code == "conflict"


@pytest.mark.parametrize("length", [54, 63])
def test_a_drill_leaves_production_as_it_is(deps: Dependencies, operator: Actor, length: int) -> None:
    name = "n" * length
    add(deps, 1, name, ReleaseState.PRODUCTION)
    before = production(deps)
    found = rehearse(deps, operator, add(deps, 2, name, ReleaseState.STAGED))
    assert found.promote_seconds > 0
    assert found.alias == f"acme/{name}@staging"
    assert production(deps) == before
    with deps.ledger.work("acme", write=False) as work:
        assert [(alias.version, alias.targets) for alias in work.aliases.history(name, "staging")][-1] == (3, ())
        assert [entry.event.subject for entry in work.events.entries() if entry.event.kind == "alias.rehearsed"] == [found.alias] * 3
        assert sum(entry.event.kind == "release.drilled" for entry in work.events.entries()) == 1


def test_what_is_rehearsed_is_no_name_and_no_objective(deps: Dependencies, operator: Actor) -> None:
    add(deps, 1, "desk", ReleaseState.PRODUCTION)
    rehearse(deps, operator, add(deps, 2, "desk", ReleaseState.STAGED))
    assert [alias.path for alias in list_aliases(deps, operator).aliases] == ["acme/desk"]
    assert [(head.name, head.alias.path) for head in list_objectives(deps, operator).objectives if head.alias] == [("desk", "acme/desk")]


def test_a_drill_that_nobody_follows_is_taken_back(deps: Dependencies, operator: Actor) -> None:
    add(deps, 1, "desk", ReleaseState.PRODUCTION)
    before = production(deps)
    with pytest.raises(Unavailable) as refused:
        rehearse(deps, operator, add(deps, 2, "desk", ReleaseState.STAGED), patience=0.0)
    assert refused.value.error_code == "drill_timeout"
    assert production(deps) == before
