"""Health of the workspace: writable ledger, free disk, shipped checkpoints, custody of keys, and overdue obligations of erasures."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from uuid import uuid4

from tailorbird import auth
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.erasure import Certificate, ObligationKind
from tailorbird.domain.errors import Corrupt, NotFound, TailorbirdError
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.release import ReleaseState
from tailorbird.domain.value import Value
from tailorbird.ledger import UnitOfWork
from tailorbird.system.background_loop import place_of
from tailorbird.usecases.anchored_rows import anchored_erasures
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.maintenance.audit import Notice, checkpoint_notices

#: Roles whose separation an approval rests on. A worker's key belongs on its machine.
_DUTIES = frozenset({Role.AUTHOR, Role.APPROVER, Role.REVIEWER, Role.OPERATOR, Role.ADMIN})


def keys_together(deps: Dependencies, tenant: str, people: Iterable[Identity]) -> tuple[str, ...]:
    """Those of ``people`` whose present private keys lie in this workspace without a passphrase, where that defeats separation of duties:
    two or more, of whom one decides. A key that this user may not read is taken for that of whom its file names; keys on other machines are
    not seen."""
    files = [(file.name.partition(".key")[0], auth.examine_key(file)) for file in _key_files(deps, tenant)]
    lying = {public or name for name, public in files if public is not None}
    held = [p for p in people if p.enabled and p.roles & _DUTIES and lying & {p.public_key, p.name}]
    return tuple(person.name for person in held) if len(held) > 1 and any(person.decides for person in held) else ()


def _together_text(names: Sequence[str]) -> str:
    return (
        f"the private keys of {_listed(names)} lie in one workspace: an approval proves that somebody with that folder agreed, not that a "
        "second person did; hand each key to its person, who rotates it there (tailorbird identity rotate); keys on other machines are not "
        "seen from here"
    )


def _key_files(deps: Dependencies, tenant: str) -> list[Path]:
    """Those of a rotation that was cut off too (``NAME.key.new``)."""
    return sorted((deps.workspace / "keys" / tenant).glob("*.key*"))


def approval_remarks(deps: Dependencies, work: UnitOfWork) -> tuple[str, ...]:
    """What keeps approvals in this tenant from proving that several people agreed, a sentence each; empty where nothing is known to."""
    people = work.identities.all()
    together = keys_together(deps, work.tenant, people)
    remarks = [_together_text(together)] if together else []
    # One admin signed for them, who is somebody else: the first admin of a tenant signs for themselves.
    admitted = [p for p in people if p.enabled and p.decides and len(p.admitted_by) == 1 and p.admitted_by != (p.name,)]
    if admitted:
        who, by = _listed([person.name for person in admitted]), _listed(sorted({person.admitted_by[0] for person in admitted}))
        were = "was" if len(admitted) == 1 else "were"
        remarks.append(
            f"{who} {were} admitted by one admin alone ({by}); a second admin who knows them confirms: tailorbird identity confirm NAME"
        )
    return tuple(remarks)


def custody_notices(deps: Dependencies) -> list[Notice]:
    """Warnings of the custody of keys, of tenants that have key files in this workspace."""

    def warnings(tenant: str) -> list[Notice]:
        with deps.ledger.work(tenant, write=False) as work:
            found = keys_together(deps, tenant, work.identities.all())
        return [Notice(code="keys_together", text=f"{tenant}: {_together_text(found)}", tenant=tenant)] if found else []

    with deps.ledger.system(write=False) as system:
        here = [tenant for tenant in system.tenants.all() if _key_files(deps, tenant)]
    return list(chain.from_iterable(for_each_tenant(deps, warnings, here).found.values()))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


#: Bytes that are written to see whether there is room: an empty file fits on a full disk.
_PROBE = 1 << 16


def overdue_duties(deps: Dependencies) -> list[Notice]:
    """One for each duty of an erasure about a release that is overdue; a release that ended in the meantime asks for nothing more. Tenants
    without an erasure are not looked at."""
    today = deps.clock.now().date()
    with deps.ledger.system(write=False) as system:
        names = system.tenants.with_erasures()

    def overdue(tenant: str) -> list[Notice]:
        found = []
        with deps.ledger.work(tenant, write=False) as work:
            asked = [erasure for erasure in anchored_erasures(work) if erasure.certificate is not None]
            releases = work.releases.all() if asked else ()
            for erasure in asked:
                certificate = work.records.get(Certificate, str(erasure.certificate))
                # Those of ``duties`` about releases that have not ended by now.
                alive = {
                    short(release.digest) for release in releases if release.state not in (ReleaseState.RETIRED, ReleaseState.REJECTED)
                }
                for duty in tuple(
                    duty
                    for duty in certificate.duties
                    if duty.kind in (ObligationKind.RETIRE, ObligationKind.RETRAIN) and duty.what in alive
                ):
                    if duty.due < today:
                        what = f"{duty.kind.value} release {duty.what} by {duty.due.isoformat()}, and it is still there: {duty.why}"
                        text = f"{tenant}: erasure {erasure.id} asked to {what}"
                        found.append(Notice(code="erasure_overdue", text=text, tenant=tenant))
        return found

    seen = for_each_tenant(deps, overdue, names)
    unreadable = [Notice(code="record_unreadable", text=f"rows of {name} cannot be read", tenant=name) for name in seen.failed]
    return [*chain.from_iterable(seen.found.values()), *unreadable]


class WorkspaceHealth(Value):
    """``writable`` is False when the record or its log cannot be written: then nothing can be changed. Notices alone stop nothing."""

    writable: bool
    notices: tuple[Notice, ...] = ()


class HealthWarning(Value):
    """Notices of one kind. ``texts`` are those that the reader may see: they can name tenants and people."""

    code: str
    count: int
    texts: tuple[str, ...] = ()


def warnings_for(deps: Dependencies, notices: Sequence[Notice], reader: Identity | None) -> tuple[HealthWarning, ...]:
    """Notices by code. An admin reads the texts about the installation and their tenant, an admin of the host all; nobody else any."""
    found: dict[str, list[Notice]] = {}
    for notice in notices:
        found.setdefault(notice.code, []).append(notice)
    whose = reader.tenant if reader is not None and reader.holds(Role.ADMIN) else None
    return tuple(
        HealthWarning(
            code=code,
            count=len(some),
            texts=tuple(one.text for one in some if whose and (whose == deps.host or one.tenant in (None, whose))),
        )
        for code, some in found.items()
    )


def examine(deps: Dependencies) -> WorkspaceHealth:
    """Looks at everything now. May wait as long as the record's lock is held by somebody."""
    record, file, found, writable = _unwritable_record(deps), deps.upkeep.record_file, list[Notice](), True
    probe = deps.workspace / f".probe-{uuid4().hex}"
    try:
        probe.write_bytes(bytes(_PROBE))
    except OSError as error:
        found.append(Notice(code="workspace_unwritable", text=f"the workspace cannot be written: {error.strerror}"))
        # The lock of a database can be taken on a full disk, too.
        writable = file is None or not file.resolve().is_relative_to(deps.workspace.resolve())
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    with suppress(OSError):
        free = shutil.disk_usage(deps.workspace).free
        if free < deps.upkeep.disk_floor:
            text = f"{free // 1_000_000} MB are free on the disk of the workspace: free some, or move it"
            found.append(Notice(code="disk_low", text=text))
    if record is not None:
        return WorkspaceHealth(writable=False, notices=(record, *found))
    for look in (checkpoint_notices, custody_notices, overdue_duties):
        try:
            found += look(deps)
        except Exception as error:  # noqa: BLE001 - whatever one look meets, the others are made
            code = error.error_code if isinstance(error, TailorbirdError) else place_of(error)
            found.append(Notice(code="log_unreadable", text=f"the log cannot be read ({code})"))
    return WorkspaceHealth(writable=writable, notices=tuple(found))


def _unwritable_record(deps: Dependencies) -> Notice | None:
    """Takes the write lock and gives it back: nothing else shows that a database can be written. Every change is an entry of the log, so
    that one must be possible, too."""
    file = deps.upkeep.record_file
    if file is not None and not file.exists():
        # Open connections would go on writing into a file that nobody finds again.
        return Notice(code="record_missing", text="the file of the record is gone: put it back, or restore a backup")
    try:
        with deps.ledger.system() as system:
            try:
                system.events.check_writable()
            except (Corrupt, NotFound) as error:
                text = f"the log cannot be written, so nothing can be changed: {error} ({error.error_code})"
                return Notice(code="log_unwritable", text=text)
    except TailorbirdError as error:
        return Notice(code="record_unwritable", text=f"the record cannot be written ({error.error_code})")
    return None
