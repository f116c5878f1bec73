"""Comparison of two candidates as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tailorbird.domain.evidence import CandidateComparison, Comparison, Side, Unpaired
from tailorbird.reporting.tables import (
    NOTHING,
    FittedTable,
    add_row,
    human_count,
    human_money,
    human_seconds,
    metric_text,
    plain_table,
    process_memory,
)
from tailorbird.stats.comparison_sentences import difference_words, settles_comparison, what_settles
from tailorbird.text.markdown import markdown_table, markdown_text

_FIRST = ("accuracy", "exact_match", "macro_f1", "log_loss", "ece", "retention", "memorisation", "latency_p95_ms", "cost_per_1k_requests")


def contrast_table(found: CandidateComparison) -> FittedTable:
    """What both measured, the difference where there is one, and what each cost."""
    table = plain_table(("what", found.one.name, found.other.name, "difference"))
    for row in _rows(found):
        add_row(table, row)
    return table


def contrast_markdown(found: CandidateComparison) -> str:
    """The same in Markdown, with the remarks below it."""
    table = markdown_table(("what", found.one.name, found.other.name, "difference"), _rows(found))
    return table + "\n\n" + "\n".join(f"- {markdown_text(remark)}" for remark in found.remarks) + "\n"


def _rows(found: CandidateComparison) -> Iterator[tuple[str, str, str, str]]:
    one, other = found.one, found.other
    yield "measured on", f"{one.n:,} {one.split} items", f"{other.n:,} {other.split} items", "paired" if found.paired else "not paired"
    told_of: tuple[Comparison | Unpaired, ...] = (*found.paired, *found.unpaired)
    differences = {told.metric: told for told in told_of}
    shown = [name for name in _FIRST if name in one.metrics or name in other.metrics]
    for name in dict.fromkeys((*([found.compared_on] if found.compared_on in differences else []), *shown, *differences)):
        told = differences.get(name)
        yield name, metric_text(one.metrics.get(name)), metric_text(other.metrics.get(name)), _difference(told) if told else NOTHING
    yield "parameters trained", human_count(one.trained_parameters), human_count(other.trained_parameters), NOTHING
    yield "time to make", *_both(one, other, lambda side: human_seconds(side.seconds)), NOTHING
    yield "process memory", *_both(one, other, lambda side: process_memory(side.process_memory_gb)), NOTHING
    yield "money to make", *_both(one, other, lambda side: human_money(side.money)), NOTHING


def _both(one: Side, other: Side, told: Callable[[Side], str]) -> tuple[str, str]:
    return told(one), told(other)


def _difference(told: Comparison | Unpaired) -> str:
    if isinstance(told, Comparison):
        return ", ".join(filter(None, (difference_words(told), settles_comparison(told))))
    words = f"{told.difference:+.3f} {told.standing.value.replace('_', ' ')} [{told.low:+.3f}, {told.high:+.3f}]"
    return ", ".join(filter(None, (words, what_settles(told.items_needed))))
