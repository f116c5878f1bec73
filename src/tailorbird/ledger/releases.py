"""Repositories of releases with their decisions, of label reviews, and of aliases with every version they had."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, func, select, type_coerce, update

from tailorbird.crypto.anchored_rows import RowGroup, review_group
from tailorbird.crypto.canonical_json import digest_bytes, short
from tailorbird.domain.deployment import Alias, Stage, alias_missing, alias_path
from tailorbird.domain.errors import Conflict, Corrupt, NotFound
from tailorbird.domain.label_review import Judgement
from tailorbird.domain.release import Approval, Dossier, Release, ReleaseContent, ReleaseState
from tailorbird.domain.rollout import OPEN
from tailorbird.domain.value import Digest
from tailorbird.ledger.repository import Repository, begins, portions, text_of, value_from, value_from_text
from tailorbird.ledger.tables import ReadableTime, alias_moves, aliases, approvals, judgements, releases, rollouts, unreadable


class Releases(Repository):
    """One tenant's releases."""

    def add(self, release: Release) -> None:
        """Adds a release and its approvals, unless it is there.

        Raises Corrupt when its digest is not that of its content, or its dossier is about another release.
        """
        self._own(release.content)
        content = text_of(release.content)
        if not digest_bytes(content.encode()) == release.digest == release.dossier.release:
            raise Corrupt(
                f"the release {short(release.digest)} does not have the digest of its content, or its dossier is about another release",
                "build the release and its dossier again from the content",
                code="release_digest",
            )
        texts = {"content": content, "dossier": text_of(release.dossier)}
        if self._add(releases, release, number=self._next(releases), **texts):
            self._changes.note(None, self.get(release.digest))
            for approval in release.approvals:
                self.approve(approval)

    def get(self, digest: str) -> Release:
        """The release whose digest is, or alone starts with, ``digest`` (``sha256:`` may be left out).

        Raises NotFound, Corrupt.
        """
        start = "sha256:" + digest.removeprefix("sha256:")
        found = self._made(self._rows(releases, Release, begins(releases.c.digest, start)).limit(2)) if start != "sha256:" else ()
        if not found:
            raise NotFound(
                f"no release {short(digest)} in {self._tenant}", "list them with: tailorbird release list", code="release_missing"
            )
        if len(found) > 1:
            raise NotFound(f"more than one release begins with {digest}", "give more digits of its digest")
        return found[0]

    def all(self) -> tuple[Release, ...]:
        """All releases, newest first."""
        return self._made(self._newest())

    def latest(self, limit: int = 50, skip: int = 0) -> tuple[Release, ...]:
        """At most ``limit`` of them, newest first, leaving out the ``skip`` newest."""
        return self._made(self._newest().limit(limit).offset(skip))

    def count(self) -> int:
        """Number of releases."""
        return self._count(releases)

    def move(self, digest: Digest, before: ReleaseState, after: ReleaseState) -> None:
        """Moves a release from ``before`` to ``after``. Raises NotFound, and Conflict when it is no longer in ``before``."""
        current = self.get(digest)
        if current.state is not before:
            raise Conflict(
                f"the release {short(digest)} is {current.state.value}, not {before.value}",
                "somebody else moved it: look at it again before you decide",
                code="release_state",
            )
        self._run(update(releases).where(self._here(releases, releases.c.digest == digest)).values(state=after))
        self._changes.note(current, self.get(digest))

    def approve(self, approval: Approval, instead: Approval | None = None) -> None:
        """Adds a decision, in place of ``instead``. Raises NotFound, and Conflict when this identity has already decided otherwise."""
        before = self.get(approval.release)
        of_release = approvals.c.release == approval.release
        if instead in before.approvals:
            self._run(delete(approvals).where(self._here(approvals, of_release, approvals.c.identity == approval.identity)))
        if not self._add(approvals, approval, number=self._next(approvals, of_release)):
            raise Conflict(
                f"{approval.identity} has already decided on the release {short(approval.release)}",
                "a decision stands: somebody else who may decides, or who approved rejects it while it can be",
                code="already_decided",
            )
        self._changes.note(before, self.get(approval.release))

    def _newest(self) -> Select[Any]:
        return self._rows(releases, Release).order_by(releases.c.number.desc(), releases.c.digest)

    def _made(self, query: Select[Any]) -> tuple[Release, ...]:
        """The releases of some rows, with their approvals. Raises Corrupt when the content of one does not have its digest any more, or its
        dossier is about another."""
        rows = self._connection.execute(query).all()
        decided: dict[Digest, list[Approval]] = {row.digest: [] for row in rows}
        for some in portions(decided):
            asked = self._rows(approvals, Approval, approvals.c.release.in_(some)).order_by(approvals.c.release, approvals.c.number)
            for approval in self._many(Approval, asked):
                decided[approval.release].append(approval)
        found = []
        for row in rows:
            content, dossier = value_from_text(ReleaseContent, row.content), value_from_text(Dossier, row.dossier)
            if not digest_bytes(row.content.encode()) == row.digest == dossier.release:
                raise unreadable(Release.__name__)
            parts = {"content": content, "dossier": dossier, "approvals": tuple(decided[row.digest])}
            found.append(value_from(Release, dict(row._mapping) | parts))
        return tuple(found)


class Judgements(Repository):
    """One tenant's judgements of label reviews."""

    def add(self, judgement: Judgement) -> None:
        """Adds a judgement. Raises Conflict when this reviewer has judged this item already."""
        with self._changing(lambda: (self._group(judgement.release),)):
            added = self._add(judgements, judgement)
        if not added:
            raise Conflict(f"{judgement.reviewer} has judged item {judgement.number} already", "go on with the next one")

    def of(self, release: Digest) -> tuple[Judgement, ...]:
        """All judgements of a release, in the order in which they were given."""
        asked = self._rows(judgements, Judgement, judgements.c.release == release)
        return self._many(Judgement, asked.order_by(judgements.c.at, judgements.c.reviewer, judgements.c.number))

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of the label review of each release that has one."""
        yield from map(self._group, self._texts(judgements.c.release, self._here(judgements)))

    def forget_reasons(self, given: Iterable[Judgement]) -> int:
        """Empties the reasons of these judgements, whose marks stay; how many there were."""
        emptied = 0
        for one in given:
            same = (judgements.c[name] == getattr(one, name) for name in ("release", "reviewer", "number"))
            emptied += self._run(update(judgements).where(self._here(judgements, *same, judgements.c.reason != "")).values(reason=""))
        return emptied

    def _group(self, release: Digest) -> RowGroup:
        return review_group(self._tenant, release, self.of(release))


#: An alias, of all tenants.
_ALIAS = (aliases.c.tenant, aliases.c.name, aliases.c.stage)


def _newest(rows: Select[Any], *which: ColumnElement[bool]) -> Select[Any]:
    """Of ``rows`` over all versions for which ``which`` holds those of the newest ones."""
    newest = select(*_ALIAS, func.max(aliases.c.version).label("version")).where(*which).group_by(*_ALIAS).subquery()
    return rows.join(newest, and_(*(aliases.c[column.name] == column for column in newest.c)))


class Aliases(Repository):
    """One tenant's aliases."""

    def get(self, name: str, stage: Stage = "production") -> Alias:
        """The alias as it is now. Raises NotFound."""
        alias = self._current(name, stage)
        if alias is None:
            raise alias_missing(self._tenant, name, self._texts(aliases.c.name, self._here(aliases, aliases.c.stage == stage)))
        return alias

    def all(self, only: Collection[str] | None = None, stage: Stage | None = "production") -> tuple[Alias, ...]:
        """All aliases of a stage (None: of both) as they are now, by name; only those named, where given."""
        rows = _newest(self._rows(aliases, Alias), self._here(aliases)).order_by(aliases.c.name, aliases.c.stage)
        rows = rows if stage is None else rows.where(aliases.c.stage == stage)
        return self._many(Alias, rows if only is None else rows.where(aliases.c.name.in_(only)))

    def put(self, alias: Alias) -> None:
        """Writes the next version. Raises Conflict when ``alias.version`` is not one above the stored one (1 for a new alias)."""
        self._own(alias)
        move = self._connection.scalar(update(alias_moves).values(count=alias_moves.c.count + 1).returning(alias_moves.c.count))
        before = self._current(alias.name, alias.stage)
        version = before.version if before else 0
        if alias.version != version + 1 or not self._add(aliases, alias, move=move):
            raise Conflict(
                f"the alias {alias.path} was moved meanwhile: version {alias.version} does not follow {version}",
                "look where it points now, then move it again",
                code="alias_moved",
            )
        self._changes.note(before, self._current(alias.name, alias.stage))

    def history(self, name: str, stage: Stage = "production") -> tuple[Alias, ...]:
        """Every version the alias had, oldest first."""
        return self._many(Alias, self._versions(name, stage).order_by(aliases.c.version))

    def _versions(self, name: str, stage: Stage) -> Select[Any]:
        return self._rows(aliases, Alias, aliases.c.name == name, aliases.c.stage == stage)

    def _current(self, name: str, stage: Stage) -> Alias | None:
        return self._one(Alias, self._versions(name, stage).order_by(aliases.c.version.desc()).limit(1))


class AllAliases(Repository):
    """System repository: aliases of all tenants."""

    def newest(self) -> dict[str, tuple[int, datetime | None]]:
        """Version and time of every alias's last move, by path, of every stage; None for a time that cannot be read."""
        moved_at = type_coerce(aliases.c.moved_at, ReadableTime())
        rows = self._connection.execute(_newest(select(*_ALIAS, aliases.c.version, moved_at)))
        return {alias_path(*key): (version, at) for *key, version, at in rows}

    def moved_since(self, moves: int) -> frozenset[str] | None:
        """Paths of the aliases that moved after so many moves; None where the versions do not account for every move since: a tenant was
        removed, or the count is that of another record."""
        rows = self._connection.execute(select(*_ALIAS).where(aliases.c.move > moves)).all()
        if len(rows) != self._connection.execute(select(alias_moves.c.count)).scalar_one() - moves:
            return None
        return frozenset(alias_path(*key) for key in rows)

    def rolling_out(self) -> tuple[str, ...]:
        """Tenants that have a rollout which goes on, by name."""
        return tuple(sorted(self._texts(rollouts.c.tenant, rollouts.c.state.in_([state.value for state in OPEN]))))
