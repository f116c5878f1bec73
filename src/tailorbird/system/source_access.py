"""Source access: addresses that the work at hand may read, unrestricted locally and limited to the tenant's places otherwise.

The reach stands in the context (``contextvars``), not in every signature: whoever reads at an address asks here, and a reader that is
written later cannot forget to be handed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tailorbird.domain.allowed_places import ANONYMOUS, OF_WORKER, AllowedPlace, parse_address, place_for
from tailorbird.domain.errors import Forbidden, Unavailable

#: Options for a storage's client, by the name of a credential.
Credentials = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class SourceAccess:
    """The places of ``tenant``, and the credentials that places may name."""

    tenant: str
    places: tuple[AllowedPlace, ...]
    credentials: Credentials = field(default_factory=dict)


@dataclass(frozen=True)
class AccessGrant:
    """Permission to read at an address, with the credential that is used and its ``options`` from the settings."""

    credential: str
    options: Mapping[str, Any]


_reach: ContextVar[SourceAccess | None] = ContextVar("tailorbird_reach", default=None)


@contextmanager
def restrict_sources(reach: SourceAccess | None) -> Iterator[None]:
    """Restricts the addresses that may be read until the block ends; None: unrestricted, as on one's own machine."""
    token = _reach.set(reach)
    try:
        yield
    finally:
        _reach.reset(token)


def is_bounded() -> bool:
    """True while submitted work runs."""
    return _reach.get() is not None


def grant_for(name: str) -> AccessGrant | None:
    """Permission to read at the address ``name``; None where nothing is bounded. Raises Forbidden as ``grant_within``."""
    reach = _reach.get()
    return None if reach is None else grant_within(reach, name)


def grant_within(reach: SourceAccess, name: str) -> AccessGrant:
    """Permission to read at ``name`` within ``reach``. Raises Forbidden (no place of the tenant covers it, or it is no plain address),
    Unavailable (the credential is not known here)."""
    try:
        address = parse_address(name)
    except ValueError as error:
        raise Forbidden(f"{name[:200]!r} is not read for submitted work: {error}", "write a plain address", code="place_form") from None
    place = place_for(address, reach.places)
    if place is None:
        raise Forbidden(
            f"the tenant {reach.tenant} may not read at {name[:200]}",
            f"upload the data, or ask an admin of the host: tailorbird tenant places {reach.tenant} --allow PREFIX (see tenant list)",
            code="place_not_allowed",
        )
    if place.credential in (ANONYMOUS, OF_WORKER):
        return AccessGrant(place.credential, {})
    if place.credential not in reach.credentials:
        raise Unavailable(
            f"the credential {place.credential}, with which {place.prefix} is read, is not among this machine's settings",
            f"add it to settings.yaml of the worker: credentials: {{{place.credential}: {{...}}}}",
            code="credential_missing",
        )
    return AccessGrant(place.credential, reach.credentials[place.credential])
