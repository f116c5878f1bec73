"""Repositories of releases with their decisions, of looks at sealed tests, and of split assignments."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, select, update

from tailorbird.crypto.anchored_rows import RowChanges, RowGroup, look_group, place_of_row, split_groups
from tailorbird.crypto.canonical_json import digest_bytes, plain_json, short
from tailorbird.domain.errors import Conflict, Corrupt, NotFound
from tailorbird.domain.release import Approval, Dossier, Look, Release, ReleaseContent, ReleaseState
from tailorbird.domain.value import Digest
from tailorbird.ledger.row_mapping import (
    begins,
    insert_all_new,
    insert_new,
    next_number,
    own,
    portions,
    select_fields,
    text_of,
    unreadable,
    value_from,
    value_from_text,
    value_of,
)
from tailorbird.ledger.tables import approvals, looks, releases, splits


class Releases:
    """Implements ``ReleaseRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def add(self, release: Release) -> None:
        """Adds a release and its approvals, unless it is there.

        Raises Corrupt when its digest is not that of its content, or its dossier is about another release.
        """
        own(self._tenant, release.content.tenant)
        content = text_of(release.content)
        if not digest_bytes(content.encode()) == release.digest == release.dossier.release:
            raise Corrupt(
                f"the release {short(release.digest)} does not have the digest of its content, or its dossier is about another release",
                "build the release and its dossier again from the content",
                code="release_digest",
            )
        row = {
            "tenant": self._tenant,
            "digest": release.digest,
            "number": next_number(releases.c.number, releases.c.tenant == self._tenant),
            "state": release.state,
            "content": content,
            "dossier": text_of(release.dossier),
            "signature": plain_json(release.signature),
        }
        if insert_new(self._connection, releases, row):
            self._changes.note(None, self.get(release.digest))
            for approval in release.approvals:
                self.approve(approval)

    def get(self, digest: str) -> Release:
        """The release whose digest is, or alone starts with, ``digest`` (``sha256:`` may be left out).

        Raises NotFound, Corrupt.
        """
        start = "sha256:" + digest.removeprefix("sha256:")
        matches = self._all().where(begins(releases.c.digest, start)).limit(2)
        rows = self._connection.execute(matches).all() if start != "sha256:" else []
        if not rows:
            raise _missing(digest, self._tenant)
        if len(rows) > 1:
            raise NotFound(f"more than one release begins with {digest}", "give more digits of its digest", code="release_ambiguous")
        return self._release(rows[0])

    def all(self) -> tuple[Release, ...]:
        """All releases, newest first."""
        return tuple(self._release(row) for row in self._connection.execute(self._newest()).all())

    def latest(self, limit: int = 50, skip: int = 0) -> tuple[Release, ...]:
        """At most ``limit`` of them, newest first, leaving out the ``skip`` newest."""
        return tuple(self._release(row) for row in self._connection.execute(self._newest().limit(limit).offset(skip)).all())

    def count(self) -> int:
        """Number of releases."""
        return int(self._connection.execute(select(func.count()).select_from(self._newest().subquery())).scalar_one())

    def move(self, digest: Digest, before: ReleaseState, after: ReleaseState) -> None:
        """Moves a release from ``before`` to ``after``. Raises NotFound, and Conflict when it is no longer in ``before``."""
        stood = self.get(digest)
        if stood.state is not before:
            raise Conflict(
                f"the release {short(digest)} is {stood.state.value}, not {before.value}",
                "somebody else moved it: look at it again before you decide",
                code="release_state",
            )
        here = and_(releases.c.tenant == self._tenant, releases.c.digest == digest)
        self._connection.execute(update(releases).where(here).values(state=after))
        self._changes.note(stood, self.get(digest))

    def approve(self, approval: Approval, instead: Approval | None = None) -> None:
        """Adds a decision, in place of ``instead``. Raises NotFound, and Conflict when this identity has already decided otherwise."""
        here = (approvals.c.tenant == self._tenant, approvals.c.release == approval.release)
        release = self._connection.execute(self._all().where(releases.c.digest == approval.release)).one_or_none()
        if release is None:
            raise _missing(approval.release, self._tenant)
        stood = self._release(release)
        if instead in stood.approvals:
            self._connection.execute(delete(approvals).where(*here, approvals.c.identity == approval.identity))
        row = plain_json(approval) | {"tenant": self._tenant, "number": next_number(approvals.c.number, *here)}
        if not insert_new(self._connection, approvals, row):
            raise Conflict(
                f"{approval.identity} has already decided on the release {short(approval.release)}",
                "a decision stands: somebody else who may decides, or who approved rejects it while it can be",
                code="already_decided",
            )
        self._changes.note(stood, self.get(approval.release))

    def _newest(self) -> Select[Any]:
        return self._all().order_by(releases.c.number.desc(), releases.c.digest)

    def _all(self) -> Select[Any]:
        return select_fields(releases, Release).where(releases.c.tenant == self._tenant)

    def _release(self, row: Row[Any]) -> Release:
        """Raises Corrupt when the content does not have its digest any more, or the dossier is not about it."""
        content, dossier = value_from_text(ReleaseContent, row.content), value_from_text(Dossier, row.dossier)
        if not digest_bytes(row.content.encode()) == row.digest == dossier.release:
            raise unreadable(Release)
        decided = select_fields(approvals, Approval).where(approvals.c.tenant == self._tenant, approvals.c.release == row.digest)
        decisions = tuple(value_of(Approval, found) for found in self._connection.execute(decided.order_by(approvals.c.number)))
        return value_from(Release, dict(row._mapping) | {"content": content, "dossier": dossier, "approvals": decisions})


class Looks:
    """Implements ``LookRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def add(self, objective_name: str, snapshot: Digest, candidate: Digest, question: Digest | None = None) -> int:
        """Records a look and returns its number for this objective; the same look again returns its first number."""
        objective = and_(looks.c.tenant == self._tenant, looks.c.objective_name == objective_name)
        asked = {"snapshot": snapshot, "candidate": candidate, "question": question or ""}
        look = {"tenant": self._tenant, "objective_name": objective_name} | asked
        with self._changes.changing(self.groups):
            insert_new(self._connection, looks, look | {"number": next_number(looks.c.number, objective)})
        same = select(looks.c.number).where(objective, *(looks.c[name] == value for name, value in asked.items()))
        return int(self._connection.execute(same).scalar_one())

    def count(self, objective_name: str) -> int:
        """Number of looks taken."""
        return sum(look.objective_name == objective_name for look in self.all())

    def all(self) -> tuple[Look, ...]:
        """All looks, those of an objective in their order."""
        asked = select_fields(looks, Look).where(looks.c.tenant == self._tenant).order_by(looks.c.objective_name, looks.c.number)
        return tuple(value_of(Look, row) for row in self._connection.execute(asked))

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored."""
        yield look_group(self._tenant, self.all())


class Splits:
    """Implements ``SplitRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def assigned(self, objective_name: str) -> dict[Digest, tuple[str, str]]:
        """Row id to (split, group)."""
        return self._assigned(splits.c.objective_name == objective_name)

    def _assigned(self, *which: ColumnElement[bool]) -> dict[Digest, tuple[str, str]]:
        asked = select(splits.c.row_id, splits.c.split, splits.c.row_group).where(splits.c.tenant == self._tenant, *which)
        return {row: (split, group) for row, split, group in self._connection.execute(asked)}

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored, objective by objective."""
        for name in self._connection.scalars(select(splits.c.objective_name).where(splits.c.tenant == self._tenant).distinct()).all():
            yield from split_groups(self._tenant, name, self.assigned(name))

    def _groups_of(self, objective_name: str, rows: Collection[Digest]) -> list[RowGroup]:
        """The groups of these rows, read whole. Each is a range of the primary key, so that the rows of the others are not read."""
        places, found = {place_of_row(row) for row in rows}, dict[Digest, tuple[str, str]]()
        for place in sorted(places):
            here = splits.c.row_id.between(f"sha256:{place}", f"sha256:{place}g")
            found |= self._assigned(splits.c.objective_name == objective_name, here)
        return split_groups(self._tenant, objective_name, found, places)

    def remember(self, objective_name: str, assigned: dict[Digest, tuple[str, str]]) -> None:
        """Records rows that are new; known rows are left as they are."""
        common = {"tenant": self._tenant, "objective_name": objective_name}
        rows = [common | {"row_id": row, "split": split, "row_group": group} for row, (split, group) in assigned.items()]
        with self._changes.changing(lambda: self._groups_of(objective_name, assigned)):
            insert_all_new(self._connection, splits, rows)

    def forget(self, rows: Iterable[Digest]) -> None:
        """Deletes these rows, of whatever objective."""
        named = frozenset(rows)
        parts = [and_(splits.c.tenant == self._tenant, splits.c.row_id.in_(some)) for some in portions(named)]
        found = (self._connection.scalars(select(splits.c.objective_name).where(here).distinct()) for here in parts)
        names = sorted({name for some in found for name in some})
        with self._changes.changing(lambda: [group for name in names for group in self._groups_of(name, named)]):
            for here in parts:
                self._connection.execute(delete(splits).where(here))


def _missing(digest: str, tenant: str) -> NotFound:
    return NotFound(f"no release {short(digest)} in {tenant}", "list them with: tailorbird release list", code="release_missing")
