"""Alias record: every tenant's aliases as the record has them and the log anchors them, with the releases that they name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from tailorbird.crypto.anchored_rows import anchored_row, row_text
from tailorbird.domain.deployment import Alias
from tailorbird.domain.errors import NotFound
from tailorbird.domain.release import ReleaseContent
from tailorbird.domain.value import Digest
from tailorbird.ports.ledger import Ledger, UnitOfWork

_log = logging.getLogger("tailorbird.serving")


class AliasRecord:
    """What was last read: ``aliases`` by ``tenant/name``, ``contents`` of the releases that they name or named, and the number of moves
    that all of it is as of (None before the first reading)."""

    def __init__(self, ledger: Ledger) -> None:
        self.aliases: dict[str, Alias] = {}
        self.contents: dict[Digest, ReleaseContent] = {}
        self.moved: int | None = None
        self._ledger = ledger

    def read(self) -> None:
        """Reads what has moved since the last reading. May wait: for a thread. Raises Unavailable, Corrupt; then all is as it was."""
        with self._ledger.system(write=False) as system:
            moved = system.tenants.aliases_moved()
            newest = system.aliases.newest() if moved != self.moved else {}
        if moved == self.moved:
            return
        aliases: dict[str, Alias] = {}
        for tenant, names in newest.items():
            still = {alias.path: alias for name in names if (alias := self._as_known(tenant, name, names[name]))}
            aliases |= still
            if len(still) < len(names):
                aliases |= self._read_tenant(tenant, [name for name in names if f"{tenant}/{name}" not in still], whole=not still)
        self.aliases, self.moved = aliases, moved

    def _read_tenant(self, tenant: str, names: Sequence[str], *, whole: bool) -> dict[str, Alias]:
        """Those names of a tenant, with the releases that they name; ``whole``: they are all that it has."""
        with self._ledger.work(tenant, write=False) as work:
            aliases = self._anchored(work, work.aliases.all(None if whole else names))
            for release in {release for alias in aliases for release in _named(alias)} - self.contents.keys():
                # A name that points to a release the record lacks is kept waiting, not allowed to stop the others.
                with suppress(NotFound):
                    self.contents[release] = work.releases.get(release).content
        return {alias.path: alias for alias in aliases}

    def _anchored(self, work: UnitOfWork, aliases: Sequence[Alias]) -> list[Alias]:
        """Those that are as the log anchors them; in place of another, what was known of that name. Raises Corrupt."""
        rows = {anchored_row(alias).name: alias for alias in aliases}
        differing = work.anchors.differing({name: anchored_row(alias).digest for name, alias in rows.items()})
        for name in differing:
            _log.error(
                "the %s of %s is not what the log says and is not followed: run tailorbird audit verify", row_text(name), work.tenant
            )
        known = (self.aliases.get(rows[name].path) for name in differing)
        return [alias for name, alias in rows.items() if name not in differing] + [alias for alias in known if alias is not None]

    def _as_known(self, tenant: str, name: str, newest: tuple[int, datetime]) -> Alias | None:
        """The alias as it was read before, where it has not moved since and the record had its releases."""
        known = self.aliases.get(f"{tenant}/{name}")
        if known is None or (known.version, known.moved_at) != newest:
            return None
        return known if _named(known) <= self.contents.keys() else None


def _named(alias: Alias) -> set[Digest]:
    """The releases that answer under the name, may, or did."""
    return {*alias.asked, *(target.release for target in alias.previous)}
