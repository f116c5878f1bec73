"""Whoever has all keys of a tenant is told what its approvals are worth, until the keys are with their people."""

from __future__ import annotations

from dataclasses import replace

from support.usecases import somebody
from tailorbird.domain.identity import Identity, Role
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import act_as, initialise, key_path
from tailorbird.usecases.maintenance.audit import Notice
from tailorbird.usecases.maintenance.health import approval_remarks, custody_notices, examine, keys_together, warnings_for


def together(deps: Dependencies) -> tuple[str, ...]:
    with deps.ledger.work("acme", write=False) as work:
        return keys_together(deps, "acme", work.identities.all())


def remarks(deps: Dependencies) -> str:
    with deps.ledger.work(somebody("viewer").tenant, write=False) as work:
        return " ".join(approval_remarks(deps, work))


def test_keys_that_init_made_lie_together_until_they_are_handed_out(deps: Dependencies) -> None:
    assert together(deps) == ("admin", "approver", "author", "operator", "reviewer")
    (notice,) = custody_notices(deps)
    assert (notice.code, notice.tenant) == ("keys_together", "acme")
    text = notice.text
    assert "admin, approver, author, operator and reviewer" in text
    assert "keys on other machines are not seen from here" in text
    assert notice in examine(deps).notices
    assert "lie in one workspace" in remarks(deps)
    for name in ("admin", "approver", "operator"):
        key_path(deps, "acme", name).unlink()
    assert together(deps) == ("author", "reviewer")
    key_path(deps, "acme", "reviewer").rename(key_path(deps, "acme", "reviewer").with_suffix(".old"))
    assert together(deps) == ()
    assert not custody_notices(deps)
    assert "lie in one workspace" not in remarks(deps)


def test_warnings_name_people_to_admins_alone(deps: Dependencies) -> None:
    """An admin of a tenant reads what is about it or about nobody; an admin of the host reads everything."""
    initialise(deps, "globex", {"boss": frozenset({Role.ADMIN})})
    found = [
        Notice(code="keys_together", text="acme: ada and ben", tenant="acme"),
        Notice(code="keys_together", text="globex: cleo and dora", tenant="globex"),
        Notice(code="disk_low", text="1 MB are free"),
    ]
    hosted = replace(deps, host="acme")

    def told(reader: Identity | None) -> list[tuple[str, int, tuple[str, ...]]]:
        return [(one.code, one.count, one.texts) for one in warnings_for(hosted, found, reader)]

    blank = [("keys_together", 2, ()), ("disk_low", 1, ())]
    assert told(None) == blank
    assert told(act_as(deps, "acme", "operator").identity) == blank
    assert told(act_as(deps, "globex", "boss").identity) == [
        ("keys_together", 2, ("globex: cleo and dora",)),
        ("disk_low", 1, ("1 MB are free",)),
    ]
    assert told(act_as(deps, "acme", "admin").identity)[0] == ("keys_together", 2, ("acme: ada and ben", "globex: cleo and dora"))
