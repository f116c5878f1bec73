"""Can the shifted part prove the limit on the drop, and is it asked for in a way that makes sense?

In: an objective and its lines; a snapshot's manifest. Out: faults; for each split the largest drop that stays open where none is seen. Must
not know: rows, candidates.

The drop is the metric on the usual items less that on the shifted ones, and the upper end of its interval must stay within the limit. Where
a candidate has every item of both right, that end is one less the lower end of the shifted share: what it leaves open no candidate without
a drop could prove to be absent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tailorbird.domain.dataset import SnapshotManifest, Split
from tailorbird.domain.plan import ShiftPower
from tailorbird.foundations.power import Groups, grouped_low
from tailorbird.foundations.statistics import score_interval, spend
from tailorbird.foundations.times import time_of
from tailorbird.objective.faults import Fault, raise_faults
from tailorbird.objective.file import ObjectiveFile

#: The sizes of the groups that rows of the shifted part fall into. Nothing where each stands alone.
ShiftedSizes = Callable[[Split], Sequence[int]]


def _alone(_split: Split) -> Sequence[int]:
    return ()


def check_shift_power(file: ObjectiveFile, manifest: SnapshotManifest, groups: ShiftedSizes = _alone) -> tuple[ShiftPower, ...]:
    """What the shifted part of dev and of test can prove; nothing where there is none.

    Raises ObjectiveInvalid at the line of a limit that either cannot prove, however good a candidate is.
    """
    if manifest.shift is None:
        return ()
    confidence = spend(file.objective.business.risk.confidence, 1)
    found = tuple(_power(manifest, split, groups(split), confidence) for split in (Split.DEV, Split.TEST))
    limit = file.objective.limits.shift
    if limit is not None:
        line = file.line_of("limits.shift.max_drop")
        raise_faults(file.source, [_fault(line, power, limit.max_drop, confidence) for power in found if power.open > limit.max_drop])
    return found


def _power(manifest: SnapshotManifest, split: Split, sizes: Sequence[int], confidence: float) -> ShiftPower:
    assert manifest.shift is not None
    n = int(getattr(manifest.shift.counts, split.value))
    grouped = Groups.of(sizes) if any(size > 1 for size in sizes) else None
    low = 0.0 if not n else score_interval(1.0, n, confidence)[0] if grouped is None else grouped_low(1.0, grouped, confidence)
    return ShiftPower(split=split, n=n, open=1 - low, groups=grouped.number if grouped else None)


def _fault(line: int, power: ShiftPower, bound: float, confidence: float) -> Fault:
    shared = f" in {power.groups} groups" if power.groups else ""
    what = f"{power.n} rows{shared} of the shifted part in {power.split.value} cannot prove a drop of at most {bound:g}"
    why = f"{what} at {confidence:.1%} confidence: all right on both sides would leave {power.open:.3f} open"
    raised = f"raise `max_drop` to {math.ceil(1000 * power.open) / 1000:g}"
    if not bound or power.open >= 1:
        return Fault(line, why, raised if power.open < 1 else "bring rows of the shifted part")
    more = math.ceil(power.n * (1 - bound) / bound * power.open / (1 - power.open))
    return Fault(line, why, f"bring about {more:,} rows of the shifted part for {power.split.value}, a larger `split.share`, or {raised}")


def shift_faults(file: ObjectiveFile) -> list[Fault]:
    """A limit on what is not there, and a shifted part that is said in two ways or in none."""
    policy, limit, faults = file.objective.split, file.objective.limits.shift, list[Fault]()
    if limit is not None and policy is None:
        hint = "add `split: {by: COLUMN}`: a column of times, sources or customers that every row has"
        faults.append(Fault(file.line_of("limits.shift"), "`limits.shift` needs to know which rows have shifted", hint))
    if policy is None:
        return faults
    if policy.since is not None and (policy.values or policy.kind == "value"):
        faults.append(
            Fault(file.line_of("split.since"), "`since` is a time, and rows are split by values", "keep one of `since` and `values`")
        )
    if policy.values and policy.kind == "time":
        faults.append(
            Fault(file.line_of("split.values"), "`values` are listed, and rows are split by time", "use `since`, or `kind: value`")
        )
    if isinstance(policy.since, str) and time_of(policy.since) is None:
        faults.append(Fault(file.line_of("split.since"), "`since` is no time", "write YYYY-MM-DD, with hours where you like"))
    return faults
