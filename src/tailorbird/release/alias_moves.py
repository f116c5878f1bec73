"""Alias moves: promotion, rollback, trial of a second release, restoration."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.errors import Conflict
from tailorbird.domain.release import Release, ReleaseAction, next_state
from tailorbird.domain.value import Digest


def promoted(alias: Alias | None, release: Release, now: datetime, actor: str) -> Alias:
    """Alias ``tenant/objective`` with ``release`` as its only target; the former targets are kept for a rollback.

    ``alias`` is None for a name that never pointed anywhere. Raises Conflict when the release is neither staged nor rolling out, or the
    alias is another objective's.
    """
    next_state(release.state, ReleaseAction.PROMOTE)
    content = release.content
    path = f"{content.tenant}/{content.objective_name}"
    if alias is not None and alias.path != path:
        raise Conflict(f"the alias {alias.path} is not that of {path}", f"promote a release of {alias.path}", code="alias_other")
    return Alias(
        tenant=content.tenant,
        name=content.objective_name,
        targets=(AliasTarget(release=release.digest),),
        previous=alias.targets if alias else (),
        version=alias.version + 1 if alias else 1,
        moved_at=now,
        moved_by=actor,
    )


def rolled_back(alias: Alias, now: datetime, actor: str) -> Alias:
    """Alias with its former targets, or without any (withdrawn) when there were none.

    A rollback is one step: what it leaves is final, so nothing is remembered. Raises Conflict when the alias is withdrawn already.
    """
    if not alias.targets:
        raise Conflict(
            f"{alias.path} has nothing in production", "promote a release first: tailorbird promote DIGEST", code="alias_withdrawn"
        )
    return alias.model_copy(
        update={"targets": alias.previous, "previous": (), "version": alias.version + 1, "moved_at": now, "moved_by": actor}
    )


@dataclass(frozen=True)
class AliasTrial:
    """Trial of a second release: shadow traffic (``share`` None), or a share of the users, drawn with ``salt``."""

    incumbent: Digest
    candidate: Digest
    share: float | None
    salt: str


def with_trial(alias: Alias, trial: AliasTrial, now: datetime, actor: str) -> Alias:
    """Alias with the release of ``trial`` beside the incumbent; the targets before the incumbent stay remembered."""
    whole = 10_000
    candidate = round(whole * trial.share) if trial.share else 0
    both = (AliasTarget(release=trial.incumbent, weight=whole - candidate), AliasTarget(release=trial.candidate, weight=candidate))
    return _moved(
        alias,
        now,
        actor,
        targets=both if candidate else (AliasTarget(release=trial.incumbent),),
        mirror=None if candidate else trial.candidate,
        salt=trial.salt,
    )


def restored(alias: Alias, incumbent: Digest, now: datetime, actor: str) -> Alias:
    """Alias with ``incumbent`` as its only target, as before a trial."""
    return _moved(alias, now, actor, targets=(AliasTarget(release=incumbent),), mirror=None, salt="")


def _moved(alias: Alias, now: datetime, actor: str, **changes: object) -> Alias:
    return alias.model_copy(update={"version": alias.version + 1, "moved_at": now, "moved_by": actor} | changes)
