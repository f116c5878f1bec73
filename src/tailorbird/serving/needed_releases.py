"""Releases that an engine must hold so that names answer, and can be rolled back without a load."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal

from tailorbird.domain.deployment import Alias
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LoadRequest
from tailorbird.serving.alias_record import AliasRecord
from tailorbird.serving.alias_routes import AliasRoutes


def needed_releases(record: AliasRecord, routes: AliasRoutes, now: datetime, keep_former: timedelta) -> dict[Digest, LoadRequest]:
    """What must be loaded, most urgent first: targets of names that are answered by what they left, all targets, what still answers a
    name, then what aliases left within ``keep_former``, and what stands in for hosted models (pinned)."""
    aliases = record.aliases.values()
    targets = [(alias, target) for alias in aliases for target in alias.targets]
    kept = (alias for alias in aliases if now - alias.moved_at < keep_former or _hosted(alias, record))
    former = [(alias, target) for alias in kept for target in alias.previous]
    live = [(alias, route) for alias in aliases if (route := routes.live(alias.path))]
    moved = [(alias, target) for alias, route in live if route.alias.version != alias.version for target in alias.targets]
    answering = [(route.alias, target) for _, route in live for target in route.alias.targets]
    needed: dict[Digest, LoadRequest] = {}
    for alias, target in (*moved, *targets, *answering):
        needed.setdefault(target.release, load_of(alias, target.release))
    for alias, target in former:
        needed.setdefault(target.release, _request(alias.tenant, target.release, _purpose(alias), pinned=True))
    for alias in aliases:
        if alias.mirror is not None:
            needed.setdefault(alias.mirror, _request(alias.tenant, alias.mirror, "production"))
    return needed


def load_of(alias: Alias, release: Digest) -> LoadRequest:
    """The load of a release that an alias asks."""
    return _request(alias.tenant, release, "production" if release == alias.mirror else _purpose(alias))


def _hosted(alias: Alias, record: AliasRecord) -> bool:
    """True where an endpoint answers for one of the alias's targets: what answered before must be able to."""
    return any(target.release in record.contents and record.contents[target.release].hosted for target in alias.targets)


@lru_cache(maxsize=65536)
def _request(tenant: str, release: Digest, purpose: Literal["staging", "production"], *, pinned: bool = False) -> LoadRequest:
    """The same for each look: making one takes as long as all else that a look does about a name."""
    return LoadRequest(tenant=tenant, release=release, purpose=purpose, pinned=pinned)


def _purpose(alias: Alias) -> Literal["staging", "production"]:
    return "staging" if alias.is_staging else "production"
