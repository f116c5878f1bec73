"""Number formats, tables for a terminal, and templates of pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import Inspection
from tailorbird.domain.evidence import CandidateComparison, Comparison, Finding, GateResult, Metric, Side
from tailorbird.domain.label_review import Bounded
from tailorbird.domain.ladder import Climb, Ladder
from tailorbird.domain.objective import RiskTier, RuleException
from tailorbird.domain.plan import Estimate
from tailorbird.domain.release import Approval, Release
from tailorbird.reporting.comparison_sentences import difference_words, settles_comparison
from tailorbird.reporting.markdown import markdown_cell, markdown_text
from tailorbird.stats.intervals import spend
from tailorbird.text.terminal_text import UNBROKEN, shown


class PlainTable:
    """A table without lines and with a bold head. Numbers are aligned to the right; what does not fit is folded."""

    def __init__(self, head: Sequence[str], numbers: Collection[str] = ()) -> None:
        self._head, self._numbers = head, numbers
        self._rows: list[tuple[tuple[str, ...], bool]] = []

    def add(self, cells: Iterable[str], *, dim: bool = False) -> None:
        """One row more, dimmed where it is only a reference."""
        self._rows.append((tuple(map(shown, cells)), dim))

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """The table; in a file, a pipe or a log with one line a row."""
        told = _one_line if options.max_width >= UNBROKEN else str
        table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
        for name in self._head:
            table.add_column(
                Text(told(name)),
                overflow="fold",
                justify="right" if name in self._numbers else "left",
            )
        for cells, dim in self._rows:
            table.add_row(*(Text(told(cell)) for cell in cells), style="dim" if dim else None)
        yield table


#: Head of a column → what stands below it: a path of attributes and places, or a function of an entry.
Columns = Mapping[str, str | Callable[[Any], object]]


def value_at(entry: Any, column: str | Callable[[Any], object]) -> Any:
    """What a column shows of an entry; None where a part of its path is absent."""
    if not isinstance(column, str):
        return column(entry)
    for part in filter(None, column.split(".")):
        if entry is None:
            break
        entry = entry[int(part)] if part.isdecimal() else getattr(entry, part)
    return entry


def cell_text(value: object) -> str:
    """A moment to the minute, a number with commas, a digest cut short, nothing for None."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (frozenset, tuple)):
        return ", ".join(sorted(value) if isinstance(value, frozenset) else value)
    text = "" if value is None else str(value)
    return short(text) if text.startswith("sha256:") else text


def columns_table(columns: Columns, entries: Iterable[Any]) -> PlainTable:
    """A line an entry, with these columns."""
    table = PlainTable(tuple(columns))
    for entry in entries:
        table.add(cell_text(value_at(entry, found)) for found in columns.values())
    return table


#: How runs and releases are listed.
RUN_COLUMNS = {"run": "id", "objective": "objective_name", "state": "state.word", "by": "created_by", "since": "created_at"}
RELEASE_COLUMNS = {
    "release": "digest",
    "objective": "content.objective_name",
    "rung": "content.rung",
    "state": "state",
    "author": "content.author",
}


STEP_COLUMNS: Columns = {
    "step": "name",
    "state": "state",
    "time": lambda step: f"{step.seconds:.1f} s",
    "result": lambda step: step.result or step.error,
}


def inspection_table(found: Inspection) -> PlainTable:
    """A line a column of an inspected file."""
    guessed = {guess.column: f"{guess.role}? {guess.why}" for guess in found.guesses}
    columns: Columns = {
        "column": "name",
        "holds": "kind",
        "filled": "filled",
        "distinct": lambda one: f"{one.distinct:,}{'+' if one.distinct >= 1000 else ''}",
        "length mean / max": lambda one: f"{one.mean_length:g} / {one.longest:,}",
        "seems to be": lambda one: guessed.get(one.name),
    }
    return columns_table(columns, found.columns)


def _one_line(text: str) -> str:
    return " ".join(filter(None, map(str.strip, text.splitlines())))


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


def bounded_text(found: Bounded) -> str | None:
    """``0.40 [0.10, 0.70]``; None where it cannot be estimated."""
    if found.value is None:
        return None
    return f"{found.value:.2f}" + ("" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]")


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


def gate_table(gate: GateResult) -> PlainTable:
    """One row a KPI or limit: the bound, what was measured with its interval, the verdict and its reason."""
    table = PlainTable(("what", "bound", "measured", "items", "verdict", "reason"), ("bound", "items"))
    for finding in gate.findings:
        cells = (finding.name, f"{finding.bound:g}", finding_text(finding), f"{finding.n:,}", finding.verdict.value, finding.reason)
        table.add(cells)
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


def decision_text(approval: Approval) -> tuple[str, str]:
    """What somebody decided: the verb, and who, in which role, when and why."""
    verb = "approved" if approval.decision == "approve" else "rejected"
    reason = f": {approval.reason}" if approval.reason else ""
    return verb, f"by {approval.identity} as {approval.role.value}, {moment(approval.signature.at)}{reason}"


#: What heads the table of ``shift_rows``.
SHIFT_HEAD = ("rung", "usual items", "shifted items", "drop", "items")


def shift_rows(ladder: Ladder, metric: str) -> list[tuple[str, ...]]:
    """Each rung with ``metric`` on the usual items of dev, on those of the shifted part, and the drop between the two."""
    return [_row(climb, metric) for climb in ladder.measured if climb.evidence.shifted]


def compared_lines(ladder: Ladder) -> list[str]:
    """Candidates that learned, in pairs on the shifted part of dev: one sentence a line."""
    names = {climb.candidate: f"{climb.rung.value} {climb.variant}" for climb in ladder.measured}
    return [_compared(found, names) for found in ladder.on_shifted]


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


_FIRST = ("accuracy", "exact_match", "macro_f1", "log_loss", "ece", "retention", "memorisation", "latency_p95_ms", "cost_per_1k_requests")


def contrast_table(found: CandidateComparison) -> PlainTable:
    """What both measured, the difference where there is one, and what each cost."""
    table = PlainTable(("what", found.one.name, found.other.name, "difference"))
    for row in _rows(found):
        table.add(row)
    return table


def _rows(found: CandidateComparison) -> Iterator[tuple[str, str, str, str]]:
    one, other = found.one, found.other
    yield "measured on", f"{one.n:,} {one.split} items", f"{other.n:,} {other.split} items", "paired" if found.paired else "not paired"
    differences = {told.metric: told for told in found.paired}
    shown = [name for name in _FIRST if name in one.metrics or name in other.metrics]
    for name in dict.fromkeys((*([found.compared_on] if found.compared_on in differences else []), *shown, *differences)):
        told = differences.get(name)
        yield (
            name,
            metric_text(one.metrics.get(name)),
            metric_text(other.metrics.get(name)),
            ", ".join(filter(None, (difference_words(told), settles_comparison(told)))) if told else NOTHING,
        )
    yield "parameters trained", human_count(one.trained_parameters), human_count(other.trained_parameters), NOTHING
    yield "time to make", *_both(one, other, lambda side: human_seconds(side.seconds)), NOTHING
    yield "process memory", *_both(one, other, lambda side: process_memory(side.process_memory_gb)), NOTHING
    yield "money to make", *_both(one, other, lambda side: human_money(side.money)), NOTHING


def _both(one: Side, other: Side, told: Callable[[Side], str]) -> tuple[str, str]:
    return told(one), told(other)


#: The documents hold text that users wrote and no link of ours: what looks like a link or an image stays text, so that no scheme needs
#: to be judged and no address is called.
_LEFT_OUT = ["autolink", "image", "link", "reference", "html_block", "html_inline"]


def markdown_parser() -> MarkdownIt:
    """A parser of documents: tables, and neither links, images nor HTML."""
    return MarkdownIt("commonmark", {"html": False, "linkify": False, "xhtmlOut": False}).enable("table").disable(_LEFT_OUT)


def document_html(text: str) -> str:
    """A Markdown document as one HTML page that fetches nothing; its first line is the title."""
    title = text.partition("\n")[0].lstrip("# ")
    body = Markup(markdown_parser().render(text))
    return page_environment().get_template("document.html").render(title=title, body=body)


@cache
def markdown_environment() -> Environment:
    """Templates of Markdown documents."""
    made = Environment(loader=PackageLoader("tailorbird.reporting"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(
        short=short,
        count=lambda number: f"{number:,}",
        percent=lambda share: f"{100 * share:.1f} %",
        cell=markdown_cell,
        text=markdown_text,
        machine_memory=machine_memory,
    )
    return made


def page_environment(package: str = "tailorbird.reporting") -> Environment:
    """Templates of pages of ``package``, autoescaped."""
    return Environment(loader=PackageLoader(package), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
