"""Custody of private keys: what approvals are worth where deciders' keys lie in one place, or one admin admitted everybody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from tailorbird import auth
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.identity import Identity, Role
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.dependencies import Dependencies

#: Roles whose separation an approval rests on. A worker's key belongs on its machine.
_DUTIES = frozenset({Role.AUTHOR, Role.APPROVER, Role.REVIEWER, Role.OPERATOR, Role.ADMIN})


def keys_together(deps: Dependencies, tenant: str, people: Iterable[Identity]) -> tuple[str, ...]:
    """Names of those whose present private keys lie, without a passphrase, in this workspace, where together they defeat separation of
    duties: two or more, of whom one decides; else empty."""
    lying = set()
    for file in (deps.workspace / "keys" / tenant).glob("*.key"):
        with suppress(TailorbirdError, OSError):
            lying.add(auth.public_key(auth.load_key(file)))
    held = [person for person in people if person.enabled and person.roles & _DUTIES and person.public_key in lying]
    return tuple(person.name for person in held) if len(held) > 1 and any(person.decides for person in held) else ()


def approval_remarks(deps: Dependencies, work: UnitOfWork) -> tuple[str, ...]:
    """What keeps approvals in this tenant from proving that several people agreed, a sentence each; empty where nothing is known to."""
    people = work.identities.all()
    together = keys_together(deps, work.tenant, people)
    alone = [person for person in people if person.enabled and person.decides and _admitted_alone(person)]
    return (*map(_together_text, [together] if together else []), *map(_alone_text, [alone] if alone else []))


def tenants_with_keys_together(deps: Dependencies) -> list[str]:
    """A sentence for each tenant whose deciders' keys lie together in this workspace."""
    found = []
    with deps.ledger.system(write=False) as system:
        known = [tenant.name for tenant in system.tenants.all()]
    for tenant in known:
        if not any((deps.workspace / "keys" / tenant).glob("*.key")):
            continue
        with deps.ledger.work(tenant, write=False) as work:
            together = keys_together(deps, tenant, work.identities.all())
        if together:
            found.append(f"{tenant}: {_together_text(together)}")
    return found


def _admitted_alone(person: Identity) -> bool:
    """True when one admin signed for it, who is somebody else: the first admin of a tenant signs for themselves."""
    return len(person.admitted_by) == 1 and person.admitted_by != (person.name,)


def _together_text(names: Sequence[str]) -> str:
    return (
        f"the private keys of {_listed(names)} lie in one workspace: an approval proves that somebody with that folder agreed, not that a "
        "second person did; hand each key to its person, who rotates it there (tailorbird identity rotate)"
    )


def _alone_text(people: Sequence[Identity]) -> str:
    who, by = _listed([person.name for person in people]), _listed(sorted({person.admitted_by[0] for person in people}))
    were = "was" if len(people) == 1 else "were"
    return f"{who} {were} admitted by one admin alone ({by}); a second admin who knows them confirms: tailorbird identity confirm NAME"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
