"""Duties of an erasure whose day has passed: a release that still shows, or learned from, what a person asked to be forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.erasure import Certificate, Obligation, ObligationKind
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.maintenance.checkpoint_shipping import Notice


def notices(deps: Dependencies) -> list[Notice]:
    """One for each duty about a release that is overdue; a release that ended in the meantime asks for nothing more."""
    with deps.ledger.system(write=False) as system:
        tenants = [tenant.name for tenant in system.tenants.all()]
    found: list[Notice] = []
    for tenant in tenants:
        with deps.ledger.work(tenant, write=False) as work:
            found += [_notice(tenant, erasure, duty) for erasure, duty in _overdue(work, deps.clock.now().date())]
    return found


def _overdue(work: UnitOfWork, today: date) -> Iterator[tuple[str, Obligation]]:
    asked = [erasure for erasure in work.erasures.all() if erasure.certificate is not None]
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
    return Notice(code="erasure_overdue", text=f"{text}: {duty.why}")
