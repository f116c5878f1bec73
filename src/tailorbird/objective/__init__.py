"""The objective room: reads ``objective.yaml``, knows the KPIs, and says whether the data can prove the targets.

In: a YAML file; a snapshot's manifest. Out: a frozen objective with the line of every key; powers; errors with the line, the reason and the
nearest valid value. Must not know: rows, models, rungs.
"""

from tailorbird.objective.comparison_metric import comparable_items, compared_on, margin_of
from tailorbird.objective.data_rules import check_labels
from tailorbird.objective.editor_schema import objective_schema
from tailorbird.objective.kpi_catalogue import CATALOGUE, AnswerKinds, MetricName, MetricSpec, answers_of, parse_metric
from tailorbird.objective.objective_file import ObjectiveFile
from tailorbird.objective.power import GroupSizes, check_power, check_shift_power, provable_target
from tailorbird.objective.proposal import TASKS, ObjectiveDraft, ProposedKpi, ProvidedFacts, TaskName, draft_of, written
from tailorbird.objective.reader import parse_objective, read_objective
from tailorbird.objective.templates import OBJECTIVE_FILE, TEMPLATES, check_origins, template, write_objective, write_template
from tailorbird.objective.validation_errors import Fault, raise_faults

__all__ = [
    "CATALOGUE",
    "OBJECTIVE_FILE",
    "TASKS",
    "TEMPLATES",
    "AnswerKinds",
    "Fault",
    "GroupSizes",
    "MetricName",
    "MetricSpec",
    "ObjectiveDraft",
    "ObjectiveFile",
    "ProposedKpi",
    "ProvidedFacts",
    "TaskName",
    "answers_of",
    "check_labels",
    "check_origins",
    "check_power",
    "check_shift_power",
    "comparable_items",
    "compared_on",
    "draft_of",
    "margin_of",
    "objective_schema",
    "parse_metric",
    "parse_objective",
    "provable_target",
    "raise_faults",
    "read_objective",
    "template",
    "write_objective",
    "write_template",
    "written",
]
