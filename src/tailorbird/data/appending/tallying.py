"""What was counted before, and what is counted now, together.

In: the report, findings and quarantine of before; a tally of new rows. Out: those of all rows. Must not know: texts.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tailorbird.data.appending.placing import Placed
from tailorbird.data.appending.state import State
from tailorbird.data.curating import Tally
from tailorbird.domain.curation import CurationReport, FlowStep, QualityRule, RowFinding
from tailorbird.domain.dataset import Quarantined
from tailorbird.foundations.canonical import canonical_json


def tally_with(report: CurationReport, new: Tally, quarantined: Sequence[Quarantined], splits: tuple[int, Sequence[Quarantined]]) -> Tally:
    """Everything counted. ``splits`` are the items that came before that step, and all that it set aside."""
    later = {step.name: step for step in new.flow}
    tally = Tally(flow=[_added(step, later.get(step.name)) for step in report.flow if step.name != "splits"])
    tally.step("splits", *splits)
    tally.quarantined = list(quarantined)
    tally.personal_rows = Counter({count.kind: count.rows for count in report.personal}) + new.personal_rows
    tally.personal_found = Counter({count.kind: count.occurrences for count in report.personal}) + new.personal_found
    tally.quality = Counter({QualityRule(rule): count for rule, count in report.quality.items()}) + new.quality
    return tally


def _added(step: FlowStep, later: FlowStep | None) -> FlowStep:
    if later is None:
        return step
    return FlowStep(
        name=step.name,
        before=step.before + later.before,
        after=step.after + later.after,
        changed=step.changed + later.changed,
        reasons=dict(sorted((Counter(step.reasons) + Counter(later.reasons)).items())),
    )


def quarantine_with(
    stored: bytes, fresh: Sequence[Quarantined], state: State, placed: Placed
) -> tuple[tuple[Quarantined, ...], list[Quarantined]]:
    """All that was set aside, sorted; and those of it that the splits set aside. Parts that were placed again are judged anew."""
    judged, unplaced = _lines(state, placed)
    earlier = [entry for entry in map(Quarantined.model_validate_json, stored.splitlines()) if (entry.file, entry.line) not in judged]
    set_aside = [entry for entry in earlier if (entry.file, entry.line) in unplaced] + placed.set_aside
    everything = [*earlier, *fresh, *placed.set_aside]
    return tuple(sorted(everything, key=lambda entry: (entry.file, entry.line, entry.code))), set_aside


def _lines(state: State, placed: Placed) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """Files and lines of earlier items that were placed again; and of those that had no place before."""
    without = set(np.flatnonzero(state["split"] < 0).tolist())
    again = {place for place in placed.places.tolist() if place in without}
    files = state.facts["files"]

    def lines(places: set[int]) -> set[tuple[str, int]]:
        return {(files[int(state["file"][place])][0], int(state["line"][place])) for place in places}

    return lines(again), lines(without)


def findings_with(stored: bytes, new: Sequence[RowFinding]) -> bytes:
    """All findings as stored, sorted by file, line and code: those of a file that grew stand behind its earlier ones."""
    lines = stored.splitlines()
    for file in sorted({finding.file for finding in new}):
        added = sorted((finding for finding in new if finding.file == file), key=lambda finding: (finding.line, finding.code))
        at = bisect_right(lines, file, key=lambda line: str(json.loads(line)["file"]))
        lines[at:at] = map(canonical_json, added)
    return b"".join(line + b"\n" for line in lines)
