"""Releases with the decisions on them, looks at sealed tests, and the splits that rows were given."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from support.doubles.ledger.tables import Repository, Table
from tailorbird.crypto.anchored_rows import RowGroup, look_group, place_of_row, split_groups
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.errors import Conflict, Corrupt, NotFound
from tailorbird.domain.release import Approval, Look, Release, ReleaseState
from tailorbird.domain.value import Digest

RELEASES: Table[Digest, Release] = Table("releases")
#: The number of a look by objective, snapshot, candidate and question.
LOOKS: Table[tuple[str, Digest, Digest, Digest], int] = Table("looks")
#: Split and group by objective and row.
SPLITS: Table[tuple[str, Digest], tuple[str, str]] = Table("splits")


class MemoryReleases(Repository):
    """Implements ``ReleaseRepository``."""

    def add(self, release: Release) -> None:
        """Adds a release and its approvals, unless it is there. Raises Corrupt when digest, content and dossier do not fit."""
        self._own(release.content.tenant)
        if not digest_of(release.content) == release.digest == release.dossier.release:
            raise Corrupt(
                f"the release {short(release.digest)} does not have the digest of its content, or its dossier is about another release",
                "build the release and its dossier again from the content",
                code="release_digest",
            )
        rows = self._change(RELEASES)
        if release.digest not in rows:
            rows[release.digest] = release.model_copy(update={"approvals": ()})
            self._note(None, rows[release.digest])
            for approval in release.approvals:
                self.approve(approval)

    def get(self, digest: str) -> Release:
        """The release whose digest is, or alone starts with, ``digest`` (``sha256:`` may be left out). Raises NotFound."""
        start = "sha256:" + digest.removeprefix("sha256:")
        found = [one for name, one in self._rows(RELEASES).items() if name.startswith(start)] if start != "sha256:" else []
        if not found:
            raise self._missing(digest)
        if len(found) > 1:
            raise NotFound(f"more than one release begins with {digest}", "give more digits of its digest", code="release_ambiguous")
        return found[0]

    def all(self) -> tuple[Release, ...]:
        """All releases, newest first."""
        return tuple(reversed(self._rows(RELEASES).values()))  # type: ignore[call-overload]

    def latest(self, limit: int = 50, skip: int = 0) -> tuple[Release, ...]:
        """At most ``limit`` of them, newest first, leaving out the ``skip`` newest."""
        return self.all()[skip : skip + limit]

    def count(self) -> int:
        """How many there are."""
        return len(self._rows(RELEASES))

    def move(self, digest: Digest, before: ReleaseState, after: ReleaseState) -> None:
        """Moves a release from ``before`` to ``after``. Raises NotFound, and Conflict when it is no longer in ``before``."""
        rows, release = self._change(RELEASES), self.get(digest)
        if release.state is not before:
            raise Conflict(
                f"the release {short(digest)} is {release.state.value}, not {before.value}",
                "somebody else moved it: look at it again before you decide",
                code="release_state",
            )
        rows[release.digest] = release.model_copy(update={"state": after})
        self._note(release, rows[release.digest])

    def approve(self, approval: Approval, instead: Approval | None = None) -> None:
        """Adds a decision, in place of ``instead``. Raises NotFound, and Conflict when this identity has already decided otherwise."""
        rows = self._change(RELEASES)
        release = rows.get(approval.release)
        if release is None:
            raise self._missing(approval.release)
        others = tuple(decided for decided in release.approvals if decided != instead)
        if any(decided.identity == approval.identity for decided in others):
            raise Conflict(
                f"{approval.identity} has already decided on the release {short(approval.release)}",
                "a decision stands: somebody else who may decides, or who approved rejects it while it can be",
                code="already_decided",
            )
        rows[release.digest] = release.model_copy(update={"approvals": (*others, approval)})
        self._note(release, rows[release.digest])

    def _missing(self, digest: str) -> NotFound:
        return NotFound(f"no release {short(digest)} in {self._tenant}", "list them with: tailorbird release list", code="release_missing")


class MemoryLooks(Repository):
    """Implements ``LookRepository``."""

    def add(self, objective_name: str, snapshot: Digest, candidate: Digest, question: Digest | None = None) -> int:
        """Records a look and returns its number for this objective; the same look again returns its first number."""
        look = (objective_name, snapshot, candidate, question or "")
        with self._transaction.unanchored.changing(self.groups):
            return self._change(LOOKS).setdefault(look, self.count(objective_name) + 1)

    def count(self, objective_name: str) -> int:
        """How many looks were taken."""
        return sum(name == objective_name for name, *_ in self._rows(LOOKS))

    def all(self) -> tuple[Look, ...]:
        """All looks, those of an objective in their order."""
        rows = sorted(self._rows(LOOKS).items(), key=lambda row: (row[0][0], row[1]))
        return tuple(
            Look(objective_name=name, snapshot=snapshot, candidate=candidate, question=question, number=number)
            for (name, snapshot, candidate, question), number in rows
        )

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored."""
        yield look_group(self._tenant, self.all())


class MemorySplits(Repository):
    """Implements ``SplitRepository``."""

    def assigned(self, objective_name: str) -> dict[Digest, tuple[str, str]]:
        """Row id to (split, group)."""
        return {row: place for (name, row), place in self._rows(SPLITS).items() if name == objective_name}

    def remember(self, objective_name: str, assigned: dict[Digest, tuple[str, str]]) -> None:
        """Records rows that are new; known rows are left as they are."""
        if assigned:
            rows = self._change(SPLITS)
            with self._transaction.unanchored.changing(lambda: self._groups_of(objective_name, assigned)):
                for row, place in assigned.items():
                    rows.setdefault((objective_name, row), place)

    def forget(self, rows: Iterable[Digest]) -> None:
        """Deletes these rows, of whatever objective."""
        known, gone = self._change(SPLITS), frozenset(rows)
        keys = [key for key in known if key[1] in gone]
        names = sorted({name for name, _ in keys})
        with self._transaction.unanchored.changing(lambda: [group for name in names for group in self._groups_of(name, gone)]):
            for key in keys:
                del known[key]

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored, objective by objective."""
        for name in sorted({name for name, _ in self._rows(SPLITS)}):
            yield from split_groups(self._tenant, name, self.assigned(name))

    def _groups_of(self, objective_name: str, rows: Collection[Digest]) -> list[RowGroup]:
        places = {place_of_row(row) for row in rows}
        found = {row: place for row, place in self.assigned(objective_name).items() if place_of_row(row) in places}
        return split_groups(self._tenant, objective_name, found, places)
