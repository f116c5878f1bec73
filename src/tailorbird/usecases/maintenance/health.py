"""Health of the workspace: writable ledger, free disk, shipped checkpoints, clock, and overdue obligations of erasures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date
from itertools import chain
from uuid import uuid4

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.erasure import Certificate, Obligation, ObligationKind
from tailorbird.domain.errors import Corrupt, NotFound, TailorbirdError
from tailorbird.domain.identity import Identity, Role
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.value import Value
from tailorbird.ports.ledger import SystemWork, UnitOfWork
from tailorbird.system.background_loop import place_of
from tailorbird.usecases import key_custody
from tailorbird.usecases.anchored_rows import anchored_erasures
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.maintenance import checkpoint_shipping, clock_floor
from tailorbird.usecases.maintenance.checkpoint_shipping import Notice

#: Bytes that are written to see whether there is room: an empty file fits on a full disk.
_PROBE = 1 << 16


def notices(deps: Dependencies) -> list[Notice]:
    """One for each duty about a release that is overdue; a release that ended in the meantime asks for nothing more."""

    def overdue(tenant: str) -> list[Notice]:
        with deps.ledger.work(tenant, write=False) as work:
            return [_notice(tenant, erasure, duty) for erasure, duty in _overdue(work, deps.clock.now().date())]

    seen = for_each_tenant(deps, overdue)
    unreadable = [Notice(code="record_unreadable", text=f"rows of {name} cannot be read", tenant=name) for name in seen.failed]
    return [*chain.from_iterable(seen.found.values()), *unreadable]


def _overdue(work: UnitOfWork, today: date) -> Iterator[tuple[str, Obligation]]:
    asked = [erasure for erasure in anchored_erasures(work) if erasure.certificate is not None]
    releases = work.releases.all() if asked else ()
    for erasure in asked:
        certificate = work.records.get(Certificate, str(erasure.certificate))
        yield from ((erasure.id, duty) for duty in open_duties(certificate.duties, releases) if duty.due < today)


def open_duties(duties: Sequence[Obligation], releases: Sequence[Release]) -> tuple[Obligation, ...]:
    """Those of ``duties`` about releases that have not ended by now."""
    alive = {short(release.digest) for release in releases if release.state not in (ReleaseState.RETIRED, ReleaseState.REJECTED)}
    return tuple(duty for duty in duties if duty.kind in (ObligationKind.RETIRE, ObligationKind.RETRAIN) and duty.what in alive)


def _notice(tenant: str, erasure: str, duty: Obligation) -> Notice:
    text = f"{tenant}: erasure {erasure} asked to {duty.kind.value} release {duty.what} by {duty.due.isoformat()}, and it is still there"
    return Notice(code="erasure_overdue", text=f"{text}: {duty.why}", tenant=tenant)


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
    record, workspace = _record(deps), _workspace(deps)
    found = [*workspace, *_disk(deps)]
    if record is not None:
        return WorkspaceHealth(writable=False, notices=(record, *found))
    asked = [notice for look in (checkpoint_shipping.notices, clock_floor.notices, _keys, notices) for notice in _asked(deps, look)]
    # The lock of a database can be taken on a full disk, too.
    return WorkspaceHealth(writable=not (workspace and _holds_record(deps)), notices=(*found, *asked))


def _holds_record(deps: Dependencies) -> bool:
    """True where the file of the record lies in the workspace, and so on the disk that was written to."""
    file = deps.upkeep.record_file
    return file is not None and file.resolve().is_relative_to(deps.workspace.resolve())


def _record(deps: Dependencies) -> Notice | None:
    """Takes the write lock and gives it back: nothing else shows that a database can be written. Every change is an entry of the log, so
    that one must be possible, too."""
    file = deps.upkeep.record_file
    if file is not None and not file.exists():
        # Open connections would go on writing into a file that nobody finds again.
        return Notice(code="record_missing", text="the file of the record is gone: put it back, or restore a backup")
    try:
        with deps.ledger.system() as system:
            return _log(system)
    except TailorbirdError as error:
        return Notice(code="record_unwritable", text=f"the record cannot be written ({error.error_code})")


def _log(system: SystemWork) -> Notice | None:
    try:
        system.events.check_writable()
    except (Corrupt, NotFound) as error:
        return Notice(code="log_unwritable", text=f"the log cannot be written, so nothing can be changed: {error} ({error.error_code})")
    return None


def _workspace(deps: Dependencies) -> list[Notice]:
    probe = deps.workspace / f".probe-{uuid4().hex}"
    try:
        probe.write_bytes(bytes(_PROBE))
    except OSError as error:
        return [Notice(code="workspace_unwritable", text=f"the workspace cannot be written: {error.strerror}")]
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return []


def _disk(deps: Dependencies) -> list[Notice]:
    try:
        free = shutil.disk_usage(deps.workspace).free
    except OSError:
        return []
    if free >= deps.upkeep.disk_floor:
        return []
    return [Notice(code="disk_low", text=f"{free // 1_000_000} MB are free on the disk of the workspace: free some, or move it")]


def _asked(deps: Dependencies, look: Callable[[Dependencies], Sequence[Notice]]) -> Sequence[Notice]:
    """What a look into the record finds."""
    try:
        return look(deps)
    except Exception as error:  # noqa: BLE001 - whatever one look meets, the others are made
        code = error.error_code if isinstance(error, TailorbirdError) else place_of(error)
        return (Notice(code="log_unreadable", text=f"the log cannot be read ({code})"),)


def _keys(deps: Dependencies) -> list[Notice]:
    return [
        Notice(code=code, text=f"{tenant}: {text}", tenant=tenant)
        for tenant, custody in key_custody.custody_of_tenants(deps).items()
        for code, text in custody.remarks().items()
    ]
