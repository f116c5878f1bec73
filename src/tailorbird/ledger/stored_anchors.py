"""Tables of the anchored rows: rows by bucket, and the nodes of the state tree above them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import Connection, and_, delete, or_, select

from tailorbird.crypto.anchored_rows import AnchorUpdate, Bucket, bucket_of, place_of
from tailorbird.crypto.merkle import HASH_BYTES, Node
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.event import AnchoredRow
from tailorbird.ledger.row_mapping import upsert
from tailorbird.ledger.tables import anchor_nodes, anchored_rows


class StoredAnchors:
    """Implements ``AnchorStore``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buckets(self, numbers: Collection[int]) -> dict[int, Bucket]:
        """The rows in these buckets."""
        found: dict[int, Bucket] = {}
        for some in _portions(numbers):
            asked = f"SELECT bucket, place, digest FROM {anchored_rows.name} WHERE bucket IN ({some})"
            for bucket, place, digest in self._connection.exec_driver_sql(asked):
                found.setdefault(bucket, {})[_hex(place)] = f"sha256:{_hex(digest)}"
        return found

    def nodes(self, level: int, numbers: Collection[int]) -> dict[int, bytes]:
        """The hashes of the nodes of a level with these numbers."""
        found: dict[int, bytes] = {}
        for some in _portions(numbers):
            asked = f"SELECT number, hash FROM {anchor_nodes.name} WHERE level = {level:d} AND number IN ({some})"
            found.update((number, _bytes(hashed)) for number, hashed in self._connection.exec_driver_sql(asked).all())
        return found

    def names(self, tenant: str) -> tuple[str, ...]:
        """The names of all anchored rows of a tenant."""
        return tuple(self._connection.scalars(select(anchored_rows.c.name).where(anchored_rows.c.scope == tenant)))

    def all(self) -> Iterator[AnchoredRow]:
        """Every anchored row."""
        columns = (anchored_rows.c.scope, anchored_rows.c.name, anchored_rows.c.digest)
        for scope, name, digest in self._connection.execute(select(*columns).execution_options(yield_per=2000)):
            yield AnchoredRow(tenant=scope, name=name, digest=f"sha256:{_hex(digest)}")

    def all_nodes(self) -> dict[Node, bytes]:
        """The hash of every node. Raises Corrupt."""
        columns = (anchor_nodes.c.level, anchor_nodes.c.number, anchor_nodes.c.hash)
        rows = self._connection.execute(select(*columns).execution_options(yield_per=2000))
        return {Node(level, number): _bytes(hashed) for level, number, hashed in rows}

    def write(self, update: AnchorUpdate) -> None:
        """Keeps what an append has changed."""
        gone = [place_of(*key) for key, digest in update.rows.items() if digest is None]
        for start in range(0, len(gone), _AT_ONCE):
            places = [(bucket_of(place), place) for place in gone[start : start + _AT_ONCE]]
            here = or_(*(and_(anchored_rows.c.bucket == bucket, anchored_rows.c.place == place) for bucket, place in places))
            self._connection.execute(delete(anchored_rows).where(here))
        rows = [
            {"bucket": bucket_of(place), "place": place, "scope": tenant, "name": name, "digest": digest.removeprefix("sha256:")}
            for (tenant, name), digest in update.rows.items()
            for place in (place_of(tenant, name),)
            if digest is not None
        ]
        upsert(self._connection, anchored_rows, rows, replaced=("scope", "name", "digest"))
        nodes = [{"level": level, "number": number, "hash": hashed.hex()} for (level, number), hashed in update.nodes.items()]
        upsert(self._connection, anchor_nodes, nodes, replaced=("hash",))


#: Rows deleted, and numbers listed, in one statement.
_AT_ONCE, _LISTED = 400, 4_000


def _portions(numbers: Collection[int]) -> Iterator[str]:
    """``numbers`` as SQL lists them, so many at once: bound one by one, thousands of whole numbers take longer than the answer."""
    ordered = sorted(numbers)
    yield from (",".join(f"{number:d}" for number in ordered[start : start + _LISTED]) for start in range(0, len(ordered), _LISTED))


def _hex(text: str) -> str:
    """``text`` where it is a hash in hexadecimal. Raises Corrupt."""
    _bytes(text)
    return text


def _bytes(text: str) -> bytes:
    """The hash that ``text`` is in hexadecimal. Raises Corrupt."""
    try:
        hashed = bytes.fromhex(text)
    except (TypeError, ValueError):
        hashed = b""
    if len(hashed) != HASH_BYTES:
        raise Corrupt(
            "an anchor of a row cannot be read",
            "somebody changed the database outside tailorbird: restore it from a backup, then run tailorbird audit verify",
            code="anchors_corrupt",
        )
    return hashed
