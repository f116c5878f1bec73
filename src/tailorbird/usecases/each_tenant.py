"""Work for one tenant after another: what fails for one is logged, and the others get theirs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tailorbird.domain.errors import TailorbirdError, Unavailable
from tailorbird.system.background_loop import place_of
from tailorbird.usecases.dependencies import Dependencies

_log = logging.getLogger("tailorbird.tenants")

T = TypeVar("T")


@dataclass(frozen=True)
class TenantResults(Generic[T]):
    """What the work returned, by tenant, and the error of each tenant for which it failed."""

    found: dict[str, T]
    failed: dict[str, Exception]

    def all(self) -> dict[str, T]:
        """What it returned. Raises the first error."""
        for error in self.failed.values():
            raise error
        return self.found


def for_each_tenant(deps: Dependencies, do: Callable[[str], T], tenants: Iterable[str] | None = None) -> TenantResults[T]:
    """Does ``do`` for every tenant, or for those named. Raises Unavailable: a record that is away is so for all."""
    if tenants is None:
        with deps.ledger.system(write=False) as system:
            tenants = system.tenants.all()
    found: dict[str, T] = {}
    failed: dict[str, Exception] = {}
    for tenant in tenants:
        try:
            found[tenant] = do(tenant)
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a defect in the rows of one tenant is no matter of the others
            failed[tenant] = error
            _log.warning("%s: %s", tenant, error.error_code if isinstance(error, TailorbirdError) else place_of(error))
    return TenantResults(found, failed)
