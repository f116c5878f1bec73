"""Releases that an engine must hold so that names answer, and can be rolled back without a load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from tailorbird.domain.deployment import Alias, AliasTarget, Stage
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LoadRequest
from tailorbird.serving.alias_record import AliasRecord
from tailorbird.serving.alias_routes import AliasRoutes

_Loads = Sequence[tuple[Digest, LoadRequest]]


class _NamedLoads(NamedTuple):
    """What an alias has loaded: its targets, what it left, and its shadow."""

    alias: Alias
    targets: _Loads
    former: _Loads
    shadow: _Loads


class NeededReleases:
    """What an engine must hold of all names of a record. What one name asks is worked out once for each of its versions: ten thousand
    names are gone through at each look."""

    def __init__(self, record: AliasRecord, routes: AliasRoutes, keep_former: timedelta) -> None:
        self._record, self._routes, self._keep_former = record, routes, keep_former
        self._known: dict[str, _NamedLoads] = {}

    def at(self, now: datetime) -> dict[Digest, LoadRequest]:
        """What must be loaded, most urgent first: targets of names that are answered by what they left, all targets, what still answers a
        name, then what aliases left within ``keep_former``, and what stands in for hosted models (pinned)."""
        asked = {path: self._of(path, alias) for path, alias in self._record.aliases.items()}
        self._known = asked
        moved, answering, former = list[_Loads](), list[_Loads](), list[_Loads]()
        for path, one in asked.items():
            route = self._routes.live(path)
            if route is not None and route.alias.version != one.alias.version:
                moved.append(one.targets)
                answering.append(_loads(route.alias, route.alias.targets))
            if one.former and (now - one.alias.moved_at < self._keep_former or _hosted(one.alias, self._record)):
                former.append(one.former)
        targets, shadows = (one.targets for one in asked.values()), (one.shadow for one in asked.values() if one.shadow)
        return strictest(request for loads in (*moved, *targets, *answering, *former, *shadows) for _, request in loads)

    def _of(self, path: str, alias: Alias) -> _NamedLoads:
        known = self._known.get(path)
        if known is not None and known.alias is alias:
            return known
        former = tuple((each.release, _request(alias.tenant, each.release, alias.stage, pinned=True)) for each in alias.previous)
        shadow = ((alias.mirror, load_of(alias, alias.mirror)),) if alias.mirror is not None else ()
        return _NamedLoads(alias, _loads(alias, alias.targets), former, shadow)


def strictest(loads: Iterable[LoadRequest]) -> dict[Digest, LoadRequest]:
    """One load of each release, as asked first; for production where any asks for that."""
    needed: dict[Digest, LoadRequest] = {}
    for request in loads:
        known = needed.setdefault(request.release, request)
        if request.purpose == "production" != known.purpose:
            needed[request.release] = _request(request.tenant, request.release, "production", pinned=known.pinned)
    return needed


def _loads(alias: Alias, targets: Sequence[AliasTarget]) -> _Loads:
    return tuple((target.release, load_of(alias, target.release)) for target in targets)


def load_of(alias: Alias, release: Digest) -> LoadRequest:
    """The load of a release that an alias asks."""
    return _request(alias.tenant, release, "production" if release == alias.mirror else alias.stage)


def _hosted(alias: Alias, record: AliasRecord) -> bool:
    """True where an endpoint answers for one of the alias's targets: what answered before must be able to."""
    return any(target.release in record.contents and record.contents[target.release].hosted for target in alias.targets)


@lru_cache(maxsize=65536)
def _request(tenant: str, release: Digest, purpose: Stage, *, pinned: bool = False) -> LoadRequest:
    """One for each release: they are compared and kept by the thousand."""
    return LoadRequest(tenant=tenant, release=release, purpose=purpose, pinned=pinned)
