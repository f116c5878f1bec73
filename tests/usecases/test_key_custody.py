"""Whoever has all keys of a tenant is told what its approvals are worth, until the keys are with their people."""

from __future__ import annotations

from support.usecases import somebody
from tailorbird.auth import create_key
from tailorbird.domain.identity import Role
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import act_as, add_identity, confirm, key_path
from tailorbird.usecases.key_custody import approval_remarks, keys_together, tenants_with_keys_together
from tailorbird.usecases.maintenance.checkpoint_shipping import Notice
from tailorbird.usecases.maintenance.health import examine
from tailorbird.usecases.registry import perform


def together(deps: Dependencies) -> tuple[str, ...]:
    with deps.ledger.work("acme", write=False) as work:
        return keys_together(deps, "acme", work.identities.all())


def remarks(deps: Dependencies) -> str:
    with deps.ledger.work(somebody("viewer").tenant, write=False) as work:
        return " ".join(approval_remarks(deps, work))


def test_keys_that_init_made_lie_together_until_they_are_handed_out(deps: Dependencies) -> None:
    assert together(deps) == ("admin", "approver", "author", "operator", "reviewer")
    (text,) = tenants_with_keys_together(deps)
    assert "admin, approver, author, operator and reviewer" in text
    assert Notice(code="keys_together", text=text) in examine(deps).notices
    assert "lie in one workspace" in remarks(deps)
    for name in ("admin", "approver", "operator"):
        key_path(deps, "acme", name).unlink()
    assert together(deps) == ("author", "reviewer")
    key_path(deps, "acme", "reviewer").rename(key_path(deps, "acme", "reviewer").with_suffix(".old"))
    assert together(deps) == ()
    assert tenants_with_keys_together(deps) == []
    assert "lie in one workspace" not in remarks(deps)


def test_a_key_under_another_name_counts_and_one_with_a_passphrase_does_not(deps: Dependencies) -> None:
    for name in ("admin", "operator", "reviewer", "author"):
        key_path(deps, "acme", name).unlink()
    assert together(deps) == ()
    path = key_path(deps, "acme", "ops")
    public = create_key(path, "a passphrase")
    with deps.ledger.work("acme") as work:
        known = work.identities.get("operator")
        work.identities.replace(known.model_copy(update={"public_key": public}))
    assert together(deps) == ()
    path.unlink()
    public = create_key(path)
    with deps.ledger.work("acme") as work:
        work.identities.replace(known.model_copy(update={"public_key": public}))
    assert together(deps) == ("approver", "operator")


def test_deciders_whom_one_admin_admitted_are_named_until_a_second_confirms(deps: Dependencies) -> None:
    assert "approver, operator and reviewer were admitted by one admin alone (admin)" in remarks(deps)
    admin = act_as(deps, "acme", "admin")
    perform(deps, admin, add_identity, name="bea", roles=frozenset({Role.ADMIN}), public_key=create_key(key_path(deps, "acme", "bea")))
    for name in ("approver", "operator", "reviewer"):
        perform(deps, act_as(deps, "acme", "bea"), confirm, name=name)
    assert "bea was admitted by one admin alone" in remarks(deps)
