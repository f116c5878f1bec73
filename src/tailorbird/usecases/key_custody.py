"""Custody of private keys: what approvals are worth where deciders' keys lie in one place, or one admin admitted everybody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tailorbird import auth
from tailorbird.domain.identity import Identity, Role
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.each_tenant import for_each_tenant

#: Roles whose separation an approval rests on. A worker's key belongs on its machine.
_DUTIES = frozenset({Role.AUTHOR, Role.APPROVER, Role.REVIEWER, Role.OPERATOR, Role.ADMIN})


@dataclass(frozen=True)
class KeyCustody:
    """Names of those whose present private keys lie, without a passphrase, in this workspace.

    ``together``: where these keys defeat separation of duties, which are two or more, of whom one decides; else empty. A key that this
    user may not read is taken for that of whom its file names. ``readable``: deciders whose key other users of the machine may read.
    """

    together: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()

    def remarks(self) -> dict[str, str]:
        """A sentence on each, by the code of its warning."""
        found = (("keys_together", self.together, _together_text), ("keys_readable", self.readable, _readable_text))
        return {code: text(names) for code, names, text in found if names}


def key_custody(deps: Dependencies, tenant: str, people: Iterable[Identity]) -> KeyCustody:
    """Custody of the keys of ``people``, as far as this workspace shows it: keys on other machines are not seen."""
    files = [(file.name.partition(".key")[0], auth.examine_key(file)) for file in _key_files(deps, tenant)]
    lying = {found.public_key or name for name, found in files if found}
    readable = {found.public_key for _, found in files if found and found.is_open}
    held = [p for p in people if p.enabled and p.roles & _DUTIES and lying & {p.public_key, p.name}]
    are_together = len(held) > 1 and any(person.decides for person in held)
    return KeyCustody(
        together=tuple(person.name for person in held) if are_together else (),
        readable=tuple(person.name for person in held if person.decides and person.public_key in readable),
    )


def _key_files(deps: Dependencies, tenant: str) -> list[Path]:
    """Those of a rotation that was cut off too (``NAME.key.new``)."""
    return sorted((deps.workspace / "keys" / tenant).glob("*.key*"))


def approval_remarks(deps: Dependencies, work: UnitOfWork) -> tuple[str, ...]:
    """What keeps approvals in this tenant from proving that several people agreed, a sentence each; empty where nothing is known to."""
    people = work.identities.all()
    alone = [person for person in people if person.enabled and person.decides and _admitted_alone(person)]
    return (*key_custody(deps, work.tenant, people).remarks().values(), *map(_alone_text, [alone] if alone else []))


def custody_of_tenants(deps: Dependencies) -> dict[str, KeyCustody]:
    """Custody of keys by tenant, of those that have key files in this workspace."""

    def custody(tenant: str) -> KeyCustody | None:
        if not _key_files(deps, tenant):
            return None
        with deps.ledger.work(tenant, write=False) as work:
            return key_custody(deps, tenant, work.identities.all())

    return {tenant: found for tenant, found in for_each_tenant(deps, custody).found.items() if found is not None}


def _admitted_alone(person: Identity) -> bool:
    """True when one admin signed for it, who is somebody else: the first admin of a tenant signs for themselves."""
    return len(person.admitted_by) == 1 and person.admitted_by != (person.name,)


def _together_text(names: Sequence[str]) -> str:
    return (
        f"the private keys of {_listed(names)} lie in one workspace: an approval proves that somebody with that folder agreed, not that a "
        "second person did; hand each key to its person, who rotates it there (tailorbird identity rotate); keys on other machines are not "
        "seen from here"
    )


def _readable_text(names: Sequence[str]) -> str:
    keys = "key" if len(names) == 1 else "keys"
    return (
        f"other users of this machine may read the private {keys} of {_listed(names)}: anybody of them can approve in that name; close the "
        "files (chmod 600), and rotate (tailorbird identity rotate --leaked)"
    )


def _alone_text(people: Sequence[Identity]) -> str:
    who, by = _listed([person.name for person in people]), _listed(sorted({person.admitted_by[0] for person in people}))
    were = "was" if len(people) == 1 else "were"
    return f"{who} {were} admitted by one admin alone ({by}); a second admin who knows them confirms: tailorbird identity confirm NAME"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
