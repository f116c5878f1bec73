"""Tables for a terminal and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.effect import EffectReading, EffectStanding
from tailorbird.domain.evidence import Comparison, Evidence, Finding, GateResult, Metric
from tailorbird.domain.label_review import JudgeResult
from tailorbird.domain.ladder import Climb, Ladder
from tailorbird.domain.objective import RiskTier, RuleException
from tailorbird.domain.plan import Estimate
from tailorbird.domain.release import Approval, Release
from tailorbird.stats.comparison_sentences import difference_words
from tailorbird.stats.intervals import spend
from tailorbird.text.terminal_text import UNBROKEN, shown

#: Columns of a terminal that a word of a text column keeps unbroken, at most.
_WORD = 24


class FittedTable:
    """A table without lines whose first column is shown whole at every width.

    Columns that do not fit beside the others stand in a further block below, behind the first column again.
    """

    def __init__(self, head: Sequence[str], numbers: Collection[str] = (), widths: Mapping[str, int] | None = None) -> None:
        self._head = tuple(head)
        self._numbers = frozenset(place for place, name in enumerate(head) if name in numbers)
        self._widths = dict(widths or {})
        self._rows: list[tuple[tuple[str, ...], bool]] = []

    def add(self, cells: Iterable[str], *, dim: bool = False) -> None:
        """One row more, dimmed where it is only a reference."""
        self._rows.append((tuple(map(shown, cells)), dim))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if options.max_width >= UNBROKEN:
            yield self._unbroken()._block(range(len(self._head)), options.max_width)
            return
        for block, places in enumerate(self._blocks(options.max_width)):
            if block:
                yield Text()
            yield self._block(places, options.max_width)

    def _unbroken(self) -> FittedTable:
        """The same table with one line a row."""
        head = [_one_line(name) for name in self._head]
        flat = FittedTable(head, [head[place] for place in self._numbers])
        for cells, dim in self._rows:
            flat.add(map(_one_line, cells), dim=dim)
        return flat

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        least = [self._least(place) for place in range(len(self._head))]
        return Measurement(min(options.max_width, max(least)), min(options.max_width, self._whole()))

    def _blocks(self, width: int) -> list[list[int]]:
        """Places of the columns that stand together, block by block; the first column (0) is in each."""
        first = self._first(width)
        blocks, used = [[0]], first
        for place in range(1, len(self._head)):
            least = self._least(place)
            if used + 1 + least > width and len(blocks[-1]) > 1:
                blocks.append([0])
                used = first
            blocks[-1].append(place)
            used += 1 + least
        return blocks

    def _block(self, places: Sequence[int], width: int) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
        for place, cells in zip(places, self._shared_out(places, width), strict=True):
            justify = "right" if place in self._numbers else "left"
            table.add_column(Text(self._head[place]), overflow="fold", justify=justify, width=cells)  # type: ignore[arg-type]
        for cells_of, dim in self._rows:
            table.add_row(*(Text(cells_of[place]) for place in places), style="dim" if dim else None)
        return table

    def _shared_out(self, places: Sequence[int], width: int) -> list[int]:
        """Columns of the terminal that each column of a block takes: its least, and what is left over goes to those that could use it."""
        given = [self._first(width) if place == 0 else self._least(place) for place in places]
        left = width - sum(given) - (len(places) - 1)
        if left < 0:
            given[-1] = max(1, given[-1] + left)
        wanting = [at for at, place in enumerate(places) if given[at] < self._natural(place)]
        while left > 0 and wanting:
            for at in wanting[:left]:
                given[at] += 1
                left -= 1
            wanting = [at for at in wanting if given[at] < self._natural(places[at])]
        return given

    def _first(self, width: int) -> int:
        """What the first column takes at the least: its longest word, and no more than half of the terminal."""
        return max(1, min(self._least(0), width // 2))

    def _least(self, place: int) -> int:
        if place in self._numbers:
            return self._natural(place)
        words = max((cell_len(word) for line in self._lines(place) for word in line.split()), default=1)
        return min(self._natural(place), max(min(words, _WORD), self._widths.get(self._head[place], 0)))

    def _natural(self, place: int) -> int:
        return max(1, *(cell_len(line) for line in self._lines(place)), self._widths.get(self._head[place], 0))

    def _whole(self) -> int:
        return sum(map(self._natural, range(len(self._head)))) + len(self._head) - 1

    def _lines(self, place: int) -> Iterator[str]:
        for text in (self._head[place], *(cells[place] for cells, _ in self._rows)):
            yield from text.split("\n")


def _one_line(text: str) -> str:
    return " ".join(filter(None, map(str.strip, text.splitlines())))


def plain_table(head: Sequence[str], numbers: Collection[str] = (), widths: Mapping[str, int] | None = None) -> FittedTable:
    """An empty table with a bold head and no lines.

    Columns named in ``numbers`` are aligned to the right and not broken; those in ``widths`` keep at least that many characters a line.
    """
    return FittedTable(head, numbers, widths)


def add_row(table: FittedTable, cells: Iterable[str], *, dim: bool = False) -> None:
    """Adds one row, dimmed where it is only a reference."""
    table.add(cells, dim=dim)


#: Stands where there is nothing to show.
NOTHING = "–"

_SIZES = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


def human_count(number: float) -> str:
    """Three digits and a size: ``4.88 M`` for 4,884,480."""
    for size, sign in _SIZES:
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {sign}"
    return f"{number:.0f}"


def training_pace(tokens_per_second: float) -> tuple[str, ...]:
    """``300 tokens/s``; nothing of a training that does not count its tokens, as of an encoder."""
    return (f"{tokens_per_second:.0f} tokens/s",) if tokens_per_second else ()


def human_seconds(seconds: float) -> str:
    """``2.3 s``, ``4 min 10 s``, ``1 h 05 min``; times too short to show are ``<0.1 s``."""
    if 0 < seconds < 0.05:
        return "<0.1 s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def making_time(climb: Climb) -> str:
    """``2.3 s``; ``reused, 2 min 41 s then`` where another run had trained it."""
    return f"reused, {human_seconds(climb.reused.seconds)} then" if climb.reused else human_seconds(climb.seconds)


def human_memory(gib: float) -> str:
    """``1.5 GiB``; ``<0.1 GiB`` rather than nothing."""
    return "<0.1 GiB" if 0 < gib < 0.05 else f"{gib:.1f} GiB"


def machine_memory(gib: float) -> str:
    """``8 GiB``; what is less than a few with its tenths."""
    return f"{gib:.0f} GiB" if gib >= 4 else human_memory(gib)


def process_memory(gib: float) -> str:
    """``2.5 GiB``; a dash in records of before it was told."""
    return human_memory(gib) if gib else NOTHING


def human_money(amount: float) -> str:
    """``0.002``, ``12.50``; amounts too small to show are ``<0.001``."""
    if 0 < amount < 0.0005:
        return "<0.001"
    return f"{amount:.{2 if amount >= 1 else 3}f}"


def moment(at: datetime) -> str:
    """``2026-03-01 12:00 UTC``."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def interval(value: float, low: float, high: float) -> str:
    """``0.912 [0.880, 0.936]``; the ends are rounded outwards, so that what is shown never says more than what was found."""
    decimals = 1 if high >= 10 else 3 if high >= 0.1 else 4
    return f"{value:.{decimals}f} [{_rounded(low, decimals, math.floor)}, {_rounded(high, decimals, math.ceil)}]"


def metric_text(metric: Metric | None) -> str:
    """A metric with its interval, or a dash where it is undefined."""
    return interval(metric.value, metric.low, metric.high) if metric else NOTHING


def finding_text(finding: Finding) -> str:
    """What was measured for a KPI or limit, with the interval that was judged, or a dash where nothing was."""
    if finding.value is None or finding.low is None or finding.high is None:
        return NOTHING
    return interval(finding.value, finding.low, finding.high)


def difference_text(found: Comparison | None) -> str:
    """A paired difference, its standing, and its interval: ``+0.500 better [+0.400, +0.600]``; of what could not be compared, why."""
    return NOTHING if found is None else difference_words(found)


def estimate_text(estimate: Estimate) -> str:
    """``2 min 00 s – 4 min 30 s`` or ``0.5 – 0.8 GiB``."""
    if estimate.unit == "s":
        return f"{human_seconds(estimate.low)} – {human_seconds(estimate.high)}"
    decimals = 1 if estimate.high >= 1 else 3
    if 0 < estimate.high < 0.0005:
        return f"<0.001 {estimate.unit}"
    return f"{estimate.low:.{decimals}f} – {estimate.high:.{decimals}f} {estimate.unit}"


def _rounded(value: float, decimals: int, direction: Callable[[float], int]) -> str:
    """Rounding to six more digits first keeps binary noise from pushing an end one step out."""
    return f"{direction(round(value * 10**decimals, 6)) / 10**decimals:.{decimals}f}"


def exception_lines(exceptions: Sequence[RuleException]) -> list[str]:
    """One sentence an exception: the rule, who decided it, and why."""
    return [f"exception from {each.rule.replace('_', ' ')}, decided by {each.by}: {each.because}" for each in exceptions]


def gate_table(gate: GateResult) -> FittedTable:
    """One row a KPI or limit: the bound, what was measured with its interval, the verdict and its reason."""
    table = plain_table(("what", "bound", "measured", "items", "verdict", "reason"), ("bound", "items"))
    for finding in gate.findings:
        cells = (finding.name, f"{finding.bound:g}", finding_text(finding), f"{finding.n:,}", finding.verdict.value, finding.reason)
        add_row(table, cells)
    return table


def release_summary(release: Release) -> str:
    """A release in a few lines: what it is, by digest, and who decided what."""
    content = release.content
    facts = [
        ("release", release.digest),
        ("state", release.state.value),
        ("objective", f"{content.tenant}/{content.objective_name} ({content.risk.value} risk), run {content.run}"),
        ("rung", f"{content.rung.value} on {content.base_model_name}"),
    ]
    named = {"base": content.base_model, "adapter": content.adapter, "weights": content.weights, "data": content.snapshot}
    named |= {"encoder": content.encoder}
    named |= {"evidence": release.dossier.test_evidence, "gate": release.dossier.gate, "effect": release.dossier.effect}
    named |= {"template": content.chat_template, "tokenizer": content.tokenizer}
    facts += [(name, short(digest)) for name, digest in named.items() if digest]
    facts.append(("signed", f"by {release.signature.identity}, {moment(release.signature.at)}"))
    facts += [decision_text(approval) for approval in release.approvals]
    return "\n".join(f"{name:<9} {fact}" for name, fact in facts)


def effect_text(reading: EffectReading, proven: Sequence[str], unprovable: str) -> str:
    """What an engine showed of a release, in a sentence."""
    if reading.standing is EffectStanding.UNPROVEN:
        return "unproven: the release carries no probes: it is older than they are, ranks documents, or is a hosted model"
    if reading.standing is EffectStanding.UNPROVABLE:
        return f"unprovable: {unprovable or 'a server that tells no log-probabilities cannot show it'}"
    kinds = f"; it would have shown the absence of {', '.join(proven)}" if proven else ""
    moved = f"moves its base by {reading.effect:.3f} nats," if reading.effect else "answers"
    apart = f"{reading.distance:.3f}{'' if reading.effect else ' nats'} from what was measured, where {reading.allowed:.3f} are allowed"
    return f"{reading.standing.value}: the engine {moved} {apart}{kinds}"


def decision_text(approval: Approval) -> tuple[str, str]:
    """What somebody decided: the verb, and who, in which role, when and why."""
    verb = "approved" if approval.decision == "approve" else "rejected"
    reason = f": {approval.reason}" if approval.reason else ""
    return verb, f"by {approval.identity} as {approval.role.value}, {moment(approval.signature.at)}{reason}"


def judge_text(judge: JudgeResult) -> str:
    """Which model (name and digest), what it prefers, how far its own two orders agree, and what that is worth."""
    named = f"judge {judge.model}" + (f" ({short(judge.base)})" if judge.base else "")
    win = judge.win_rate
    if win.value is None or win.low is None or win.high is None or judge.agreed is None:
        return f"{named}: {judge.reason}"
    told = f"preferred the candidate's answers in {interval(win.value, win.low, win.high)} of {judge.judged} items"
    return f"{named}: {told}; both orders agreed on {judge.agreed:.0%}; {judge.reason}"


#: What heads the table of ``shift_rows``.
SHIFT_HEAD = ("rung", "usual items", "shifted items", "drop", "items")


def shift_rows(ladder: Ladder, metric: str) -> list[tuple[str, ...]]:
    """Each rung with ``metric`` on the usual items of dev, on those of the shifted part, and the drop between the two."""
    return [_row(climb, metric) for climb in ladder.measured if climb.evidence.shifted]


def compared_lines(ladder: Ladder) -> list[str]:
    """Candidates that learned, in pairs on the shifted part of dev: one sentence a line."""
    names = {climb.candidate: f"{climb.rung.value} {climb.variant}" for climb in ladder.measured}
    return [_compared(found, names) for found in ladder.on_shifted]


def metric_on_shifted(ladder: Ladder | None, evidence: Evidence | None) -> str:
    """The metric that the drop is of: the one that rungs are compared by."""
    if evidence and evidence.compared_on:
        return evidence.compared_on
    compared = next((found.metric for climb in (ladder.climbs if ladder else ()) if (found := climb.against_below)), None)
    known = evidence.shifted_metrics if evidence else {}
    return compared or next((name for name in ("accuracy", "exact_match", "ndcg@10") if name in known), next(iter(known), ""))


def _row(climb: Climb, metric: str) -> tuple[str, ...]:
    usual, shifted, drop = (
        climb.evidence.metrics.get(metric),
        climb.evidence.shifted_metrics.get(metric),
        climb.evidence.metrics.get("shift"),
    )
    items = f"{shifted.n:,}" if shifted else NOTHING
    return (f"{climb.rung.value} {climb.variant}", metric_text(usual), metric_text(shifted), metric_text(drop), items)


def _compared(found: Comparison, names: dict[str, str]) -> str:
    upper, lower = names.get(found.upper, "?"), names.get(found.lower, "?")
    return f"{upper} against {lower} on the same {found.n:,} shifted items, {found.metric}: {difference_text(found)}"


def confidence_text(risk: RiskTier) -> str:
    """At which confidence targets are proven and differences told, by the objective's tier, and why a look's is higher than the tier's."""
    tier, first = risk.confidence, spend(risk.confidence, 1)
    return (
        f"targets are proven at {tier:.0%} confidence (risk: {risk.value}); all looks at the sealed test share the {1 - tier:.0%} of error "
        f"that this leaves: a first look, and dev, are judged at {first:.1%}, each later look at more; differences of rungs at {tier:.0%}"
    )
