"""Shifted part: rows from a later time or from other sources, for measurement only.

The rule is decided once, by the rows of the first snapshot, and kept: rows that are appended are told by it, so that none changes sides. By
time, the newest rows are shifted: the cut lies where about the wished share is at or behind it, and rows of one time are on one side. By
value, whole values are: those whose keyed hash is smallest, so that a value that comes later is told by its hash, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime

from tailorbird.data.duplicates.exact import quarantine
from tailorbird.data.readers.sources import SourceRow
from tailorbird.domain.dataset import Quarantined, ShiftRule
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import SplitPolicy
from tailorbird.text.dates import is_dated, is_other_day, time_of

#: Of the cells so many must be times for ``kind: auto`` to take all of them for times.
_MOSTLY = 0.9
#: Unknown values that a refusal names.
_NAMED = 3
#: Ways to hash values that are tried: the one that comes nearest to the wished share is taken.
_ATTEMPTS = 32

#: A keyed hash of a text, from 0 to 1.
Hash = Callable[[str], float]


def mark_shifted(
    rows: Sequence[SourceRow], policy: SplitPolicy, earlier: ShiftRule | None, hashed: Hash
) -> tuple[ShiftRule, list[SourceRow], list[Quarantined]]:
    """The rule, rows that know their side, and those that have none: what they are split by is no time. ``earlier`` is the rule of the last
    snapshot of the objective.

    Raises DataInvalid where all rows would be on one side, where the column tells each row from every other, or where it holds days that
    cannot be read as such.
    """
    kind, cells = _kind(rows, policy, earlier), Counter(row.shift for row in rows)
    _check_values(policy, cells)
    times = {cell: time_of(cell) for cell in cells} if kind == "time" else {}
    unusable = [
        quarantine(
            row, "bad_time", f"what rows are split by (column {policy.by!r}) is no time; write YYYY-MM-DD, with hours where you like"
        )
        for row in rows
        if kind == "time" and times[row.shift] is None
    ]
    usable = [row for row in rows if kind == "value" or times[row.shift] is not None]
    if not usable:
        hint = "write times as YYYY-MM-DD, with hours where you like, or set `split: {kind: value}`"
        raise DataInvalid(f"no cell of the column {policy.by!r} is a time", hint, code="bad_time")
    if kind == "time":
        rule = _by_time([time for row in usable if (time := times[row.shift])], policy, earlier)
        shifted = {cell for cell, time in times.items() if time and _told(time) >= rule.since}
    else:
        rule = _by_value(cells, policy, earlier, hashed)
        shifted = {cell for cell in cells if _is_held(cell, rule, policy, hashed)}
    _check_sides(usable, shifted, policy)
    return rule, [replace(row, shifted=row.shift in shifted) for row in usable], unusable


def _told(time: datetime) -> str:
    """A time as rules hold it: such texts are in the order of the times."""
    return time.isoformat(timespec="microseconds")


def _kind(rows: Sequence[SourceRow], policy: SplitPolicy, earlier: ShiftRule | None) -> str:
    if policy.kind != "auto":
        return policy.kind
    if policy.since is not None or policy.values:
        return "value" if policy.values else "time"
    if earlier is not None and earlier.by == policy.by:
        return earlier.kind
    cells = Counter(row.shift for row in rows)
    dated = sum(count for cell, count in cells.items() if is_dated(cell))
    if dated >= _MOSTLY * len(rows):
        return "time"
    if dated + sum(count for cell, count in cells.items() if not is_dated(cell) and is_other_day(cell)) >= _MOSTLY * len(rows):
        hint = "write them as YYYY-MM-DD, or set `split: {kind: value}`: some days, and not the newest, are then the shifted part"
        raise DataInvalid(f"the cells of the column {policy.by!r} look like days, and are not written YYYY-MM-DD", hint, code="bad_time")
    return "value"


def _by_time(times: Sequence[datetime], policy: SplitPolicy, earlier: ShiftRule | None) -> ShiftRule:
    rule = ShiftRule(by=policy.by, kind="time")
    if policy.since is not None:
        since = time_of(policy.since.isoformat() if isinstance(policy.since, date) else policy.since)
        return rule.model_copy(update={"since": _told(since) if since else ""})
    if earlier is not None and (earlier.by, earlier.kind) == (policy.by, "time"):
        return earlier
    ordered = sorted(times)
    cut = ordered[min(len(ordered) - 1, round((1 - policy.share) * len(ordered)))]
    if cut == ordered[0]:  # All earlier rows are of one time: whatever is later is newer.
        cut = next((time for time in ordered if time > cut), cut)
    return rule.model_copy(update={"since": _told(cut)})


def _by_value(cells: Mapping[str, int], policy: SplitPolicy, earlier: ShiftRule | None, hashed: Hash) -> ShiftRule:
    rule = ShiftRule(by=policy.by, kind="value")
    if policy.values:
        return rule
    if earlier is not None and (earlier.by, earlier.kind) == (policy.by, "value"):
        return earlier
    rows = sum(cells.values())
    if len(cells) > max(2, rows / 2):
        hint = (
            "name a column whose values many rows share: a source, a customer, a site; or one of times, written YYYY-MM-DD, with hours "
            "where you like; of times as numbers (seconds since 1970) say `split: {kind: time}`"
        )
        raise DataInvalid(f"the column {policy.by!r} has {len(cells):,} values in {rows:,} rows: it names rows", hint)
    tried = (_held_out(cells, attempt, hashed) for attempt in range(_ATTEMPTS))
    options = ((abs(held / rows - policy.share), attempt, below) for attempt, sides in enumerate(tried) for held, below in sides)
    best = min(options, default=None)
    return rule if best is None else rule.model_copy(update={"attempt": best[1], "below": best[2]})


def _held_out(cells: Mapping[str, int], attempt: int, hashed: Hash) -> list[tuple[int, float]]:
    """For each number of values that may be held out, never all of them: the rows they have, and the largest of their hashes."""
    drawn = sorted((_draw(cell, attempt, hashed), count) for cell, count in cells.items())
    held, sides = 0, []
    for below, count in drawn[:-1]:
        held += count
        sides.append((held, below))
    return sides


def _draw(cell: str, attempt: int, hashed: Hash) -> float:
    return hashed(f"{attempt}\n{cell}")


def _is_held(cell: str, rule: ShiftRule, policy: SplitPolicy, hashed: Hash) -> bool:
    return cell in policy.values if policy.values else _draw(cell, rule.attempt, hashed) <= rule.below


def _check_values(policy: SplitPolicy, cells: Collection[str]) -> None:
    """A value that is spelled in another way than in the rows would have them learned from, where they must not be."""
    unknown = [value for value in policy.values if value not in cells]
    if unknown and len(unknown) < len(policy.values):
        named = ", ".join(repr(value[:40]) for value in unknown[:_NAMED])
        more = f" (and {len(unknown) - _NAMED} more)" if len(unknown) > _NAMED else ""
        hint = "write it as it stands in the column (capitals and spaces count), or take it out of `split.values` until there are such rows"
        raise DataInvalid(f"no row has {named}{more} in the column {policy.by!r}", hint)


def _check_sides(rows: Iterable[SourceRow], shifted: set[str], policy: SplitPolicy) -> None:
    sides = {row.shift in shifted for row in rows}
    if sides == {True, False}:
        return
    which = "all rows are" if True in sides else "no row is"
    hint = "name another column, or say what is shifted: `split: {since: YYYY-MM-DD}` for times, `split: {values: [...]}` for others"
    raise DataInvalid(f"{which} in the shifted part by the column {policy.by!r}", hint)
