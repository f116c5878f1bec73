"""The reporting room: domain values as tables, text and Markdown. Printing is the command line's job.

In: domain values. Out: renderables and strings. Must not know: where values come from.
"""

from tailorbird.reporting.comparison import contrast_markdown, contrast_table
from tailorbird.reporting.data_report import DataFacts, DataReport, LabelExample, SourceLine, data_report
from tailorbird.reporting.evidence_page import EvidenceFacts, evidence_html, evidence_markdown
from tailorbird.reporting.explanation import Explanation, explanation, explanation_markdown
from tailorbird.reporting.html_templates import template_environment
from tailorbird.reporting.ladder_chart import ladder_chart
from tailorbird.reporting.ladder_table import ladder_markdown, ladder_reasons, ladder_table
from tailorbird.reporting.plan_page import plan_page
from tailorbird.reporting.plan_table import accuracy_table, comparison_lines, fit_table, plan_table, power_lines, traffic_lines
from tailorbird.reporting.tables import (
    add_row,
    confidence_text,
    effect_text,
    finding_text,
    gate_table,
    human_count,
    human_money,
    human_seconds,
    judge_text,
    plain_table,
    release_summary,
    training_pace,
)

__all__ = [
    "DataFacts",
    "DataReport",
    "EvidenceFacts",
    "Explanation",
    "LabelExample",
    "SourceLine",
    "accuracy_table",
    "add_row",
    "comparison_lines",
    "confidence_text",
    "contrast_markdown",
    "contrast_table",
    "data_report",
    "effect_text",
    "evidence_html",
    "evidence_markdown",
    "explanation",
    "explanation_markdown",
    "finding_text",
    "fit_table",
    "gate_table",
    "human_count",
    "human_money",
    "human_seconds",
    "judge_text",
    "ladder_chart",
    "ladder_markdown",
    "ladder_reasons",
    "ladder_table",
    "plain_table",
    "plan_page",
    "plan_table",
    "power_lines",
    "release_summary",
    "template_environment",
    "traffic_lines",
    "training_pace",
]
