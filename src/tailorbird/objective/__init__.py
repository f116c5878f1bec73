"""Objective: reads ``objective.yaml``, knows the KPIs, and says whether the data can prove the targets.

    objective_file → tenant_placeholder → schema → rules · data_rules → reader → submitted_reader
    kpi_catalogue → power → comparison_metric; proposal · templates · chat_template

In: a YAML file; a snapshot's manifest. Out: a frozen objective with the line of every key; powers; errors with the line, the reason and the
nearest valid value. Must not know: rows, models, rungs.
"""

from tailorbird.objective.chat_template import chat_template_of
from tailorbird.objective.comparison_metric import comparable_items, margin_for, plan_comparison
from tailorbird.objective.data_rules import check_labels
from tailorbird.objective.kpi_catalogue import CATALOGUE, AnswerKinds, MetricName, MetricSpec, answers_of, parse_metric
from tailorbird.objective.objective_file import Fault, ObjectiveFile, raise_faults
from tailorbird.objective.power import GroupSizes, check_power, check_shift_power, highest_provable, provable_target
from tailorbird.objective.proposal import (
    TASKS,
    DraftFile,
    ObjectiveDraft,
    ProposedKpi,
    ProvidedFacts,
    TaskName,
    draft_objective,
    draft_yaml,
    name_of,
    with_files,
)
from tailorbird.objective.reader import parse_objective, read_objective
from tailorbird.objective.schema import objective_schema
from tailorbird.objective.submitted_reader import parse_submitted
from tailorbird.objective.templates import OBJECTIVE_FILE, TEMPLATES, check_origins, template_files, write_objective, write_template
from tailorbird.objective.tenant_placeholder import PLACEHOLDER, SHARED_ROWS

__all__ = [
    "CATALOGUE",
    "OBJECTIVE_FILE",
    "PLACEHOLDER",
    "SHARED_ROWS",
    "TASKS",
    "TEMPLATES",
    "AnswerKinds",
    "DraftFile",
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
    "chat_template_of",
    "check_labels",
    "check_origins",
    "check_power",
    "check_shift_power",
    "comparable_items",
    "draft_objective",
    "draft_yaml",
    "highest_provable",
    "margin_for",
    "name_of",
    "objective_schema",
    "parse_metric",
    "parse_objective",
    "parse_submitted",
    "plan_comparison",
    "provable_target",
    "raise_faults",
    "read_objective",
    "template_files",
    "with_files",
    "write_objective",
    "write_template",
]
