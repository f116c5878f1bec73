"""Rollouts, each with its newest revision, and the counts that their guards rest on."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from statistics import fmean
from typing import Literal

from support.doubles.ledger.deployment import FEEDBACK, REQUESTS, ROLLOUTS
from support.doubles.ledger.tables import Repository, contradiction
from tailorbird.domain.deployment import FALLBACK, FORGOTTEN, SHADOW, RequestRow, shadow_id
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.feedback import Feedback, FeedbackKind
from tailorbird.domain.rollout import ENDED, LEAST_MONEY, LEAST_MS, OPEN, ArmTally, Rollout, Sums, Votes

Segmented = Literal["channel", "language", "length"]


class MemoryRollouts(Repository):
    """Implements ``RolloutRepository``."""

    def add(self, rollout: Rollout) -> None:
        """Adds a rollout. Raises Conflict when its alias has an open one."""
        self._own(rollout.tenant)
        if self.open(rollout.alias):
            raise Conflict(
                f"{rollout.tenant}/{rollout.alias} has a rollout that goes on",
                "end it first: tailorbird rollout list",
                code="rollout_open",
            )
        rows = self._change(ROLLOUTS)
        if rollout.id in rows:
            raise contradiction()
        rows[rollout.id] = rollout
        self._note(None, rollout)

    def get(self, rollout: str) -> Rollout:
        """The rollout whose id is, or starts with, ``rollout``. Raises NotFound."""
        found = [one for name, one in self._rows(ROLLOUTS).items() if name.startswith(rollout)]
        if len(found) != 1:
            raise NotFound(f"no rollout {rollout} in {self._tenant}", "list them with: tailorbird rollout list", code="rollout_missing")
        return found[0]

    def latest(self, limit: int = 50) -> tuple[Rollout, ...]:
        """The newest rollouts, newest first."""
        return tuple(reversed(self._rows(ROLLOUTS).values()))[:limit]  # type: ignore[call-overload]

    def open(self, alias: str | None = None) -> tuple[Rollout, ...]:
        """Rollouts that go on, oldest first; only that of ``alias``, where given."""
        going_on = [one for one in self._rows(ROLLOUTS).values() if one.state in OPEN]
        return tuple(one for one in going_on if alias is None or one.alias == alias)

    def replace(self, rollout: Rollout) -> None:
        """Writes the next revision. Raises Conflict when the stored one is not the revision before."""
        self._own(rollout.tenant)
        rows = self._change(ROLLOUTS)
        before = rows.get(rollout.id)
        if before is None or before.revision != rollout.revision - 1:
            raise Conflict("the rollout has moved meanwhile", "look where it stands: tailorbird rollout show", code="rollout_moved")
        rows[rollout.id] = rollout
        self._note(before, rollout)

    def tallies(
        self, alias: str, since_version: int, start: datetime, by: Segmented | None = None, last_version: int | None = None
    ) -> tuple[ArmTally, ...]:
        """What each release did under each version of the alias from ``since_version`` on, and what both did that were asked the same."""
        arms: defaultdict[tuple[int, str, str], defaultdict[str, list[RequestRow]]] = defaultdict(lambda: defaultdict(list))
        pairs: defaultdict[tuple[int, str, str, str], defaultdict[str, list[_Pair]]] = defaultdict(lambda: defaultdict(list))
        asked = list(self._asked(alias, since_version, start, last_version))
        mirrored = {row.id: row for row in asked if row.arm == SHADOW and row.release is not None and row.outcome in ENDED}
        for row in asked:
            if row.release is None or row.arm in (FALLBACK, SHADOW):
                continue
            segment = _segment(row, by)
            arms[row.version, row.release, segment][row.unit or row.id].append(row)
            shadow = mirrored.get(shadow_id(row.id))
            if shadow is not None and row.outcome in ENDED:
                pairs[row.version, str(shadow.release), row.release, segment][row.unit or row.id].append((row, shadow))
        scores = self._scores()
        found = [_tally(arm, list(arms[arm].values()), scores) for arm in sorted(arms)]
        return (*found, *(tally for key in sorted(pairs) for tally in _pair_tallies(key, list(pairs[key].values()))))

    def votes(
        self, alias: str, release: str, since_version: int = 0, start: datetime | None = None, last_version: int | None = None
    ) -> tuple[Votes, ...]:
        """What users said of the answers that they got from ``release``, by kind."""
        answered = self._asked(alias, since_version, start, last_version)
        asked = {row.id: row.unit or row.id for row in answered if row.release == release and row.arm != SHADOW}
        said: defaultdict[str, defaultdict[str, defaultdict[str, list[float]]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )
        for one in self._rows(FEEDBACK).values():
            if one.kind in _METRICS and one.request in asked:
                said[one.kind.value][asked[one.request]][one.request] += _good(one)
        return tuple(_votes(FeedbackKind(kind), said[kind].values()) for kind in sorted(said))

    def _asked(self, alias: str, since_version: int, start: datetime | None, last_version: int | None) -> Iterator[RequestRow]:
        for row in self._rows(REQUESTS).values():
            counted = since_version <= row.version and (last_version is None or row.version <= last_version)
            if counted and row.alias == alias and row.unit != FORGOTTEN and (start is None or row.at >= start):
                yield row

    def _scores(self) -> dict[str, float]:
        """The mean of what was said of each request, where anything was."""
        scores: defaultdict[str, list[float]] = defaultdict(list)
        for said in self._rows(FEEDBACK).values():
            if said.score is not None:
                scores[said.request].append(said.score)
        return {request: fmean(given) for request, given in scores.items()}


#: The live KPIs by the kind of feedback that bears on them.
_METRICS: dict[FeedbackKind, Literal["csat", "thumbs", "outcome"]] = {
    FeedbackKind.THUMB: "thumbs",
    FeedbackKind.CSAT: "csat",
    FeedbackKind.OUTCOME: "outcome",
}


def _good(said: Feedback) -> list[float]:
    """A mark of satisfaction counts where it is 4 or 5 of 5."""
    if said.score is None:
        return [0.0] if said.kind is FeedbackKind.CSAT else []
    return [float(said.score >= 0.75)] if said.kind is FeedbackKind.CSAT else [said.score]


def _votes(kind: FeedbackKind, users: object) -> Votes:
    """From what each user said of each answer: a mean for each answer, one for each user of these, and their sum."""
    answers = [[fmean(scores) for scores in user.values() if scores] for user in users]  # type: ignore[attr-defined]
    means = [fmean(scores) for scores in answers if scores]
    return Votes(metric=_METRICS[kind], said=sum(map(len, answers)), units=len(answers), total=sum(means))


def _segment(row: RequestRow, by: Segmented | None) -> str:
    if by is None:
        return ""
    if by == "length":
        return "to 100" if row.characters <= 100 else "101 to 500" if row.characters <= 500 else "over 500"
    return row.channel if by == "channel" else row.language


#: A request and the one that mirrors it.
_Pair = tuple[RequestRow, RequestRow]
_EVENTS: dict[str, Callable[[RequestRow], bool]] = {
    "errors": lambda row: row.outcome == "error",
    "refusals": lambda row: row.outcome == "refused" or row.referred,
    "malformed": lambda row: row.malformed,
}


def _pair_tallies(key: tuple[int, str, str, str], units: Sequence[Sequence[_Pair]]) -> tuple[ArmTally, ArmTally]:
    """The release before, and the one in the shadow."""
    version, release, before, segment = key
    count = sum(map(len, units))
    alike = {"version": version, "segment": segment, "shadow": True, "units": len(units), "requests": count, "ended": count}
    old: dict[str, object] = alike | {"release": before}
    new: dict[str, object] = alike | {"release": release}
    for name, happened in _EVENTS.items():
        for side, told in ((0, old), (1, new)):
            told[name] = sum(any(happened(pair[side]) for pair in pairs) for pairs in units)
            told[f"{name}_alone"] = sum(_first(pairs, happened, side) < _first(pairs, happened, 1 - side) for pairs in units)
    compared = [shadow.agrees for pairs in units for _, shadow in pairs if shadow.agrees is not None]
    agreed = {"compared": len(compared), "agreed": sum(compared)}
    return ArmTally.model_validate(old), ArmTally.model_validate(new | agreed)


def _first(pairs: Sequence[_Pair], happened: Callable[[RequestRow], bool], side: int) -> float:
    """When only the request of this side first had the event; never: infinity."""
    times = [pair[0].at.timestamp() for pair in pairs if happened(pair[side]) and not happened(pair[1 - side])]
    return min(times, default=math.inf)


def _tally(arm: tuple[int, str, str], units: Sequence[Sequence[RequestRow]], scores: dict[str, float]) -> ArmTally:
    version, release, segment = arm
    answered = [[row for row in rows if row.outcome == "ok"] for rows in units]
    waited_for = [[row for row in rows if row.outcome in ("ok", "aborted")] for rows in units]
    return ArmTally(
        version=version,
        release=release,
        shadow=False,
        segment=segment,
        units=len(units),
        requests=sum(map(len, units)),
        **{name: sum(any(map(happened, rows)) for rows in units) for name, happened in _EVENTS.items()},
        ended=sum(row.outcome in ENDED for rows in units for row in rows),
        latency=_sums([[math.log(max(row.latency_ms, LEAST_MS)) for row in rows] for rows in waited_for]),
        cost=_sums([[math.log(max(row.cost, LEAST_MONEY)) for row in rows] for rows in answered]),
        feedback=_sums([[scores[row.id] for row in rows if row.id in scores] for rows in units]),
    )


def _sums(units: Sequence[Sequence[float]]) -> Sums:
    """Over the means of the units that have one."""
    means = [fmean(values) for values in units if values]
    return Sums(n=len(means), total=sum(means, 0.0), squares=sum((mean * mean for mean in means), 0.0))
