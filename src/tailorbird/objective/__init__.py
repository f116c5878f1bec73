"""Objective: reads ``objective.yaml``, knows the KPIs, and says whether the data can prove the targets.

    objective_file → tenant_placeholder → schema → rules · data_rules → reader → submitted_reader
    kpi_catalogue → power → comparison_metric; proposal · templates · chat_template

In: a YAML file; a snapshot's manifest. Out: a frozen objective with the line of every key; powers; errors with the line, the reason and the
nearest valid value. Must not know: rows, models, rungs.
"""

from tailorbird.objective.chat_template import chat_template_of
from tailorbird.objective.kpi_catalogue import CATALOGUE, AnswerKinds, MetricName, MetricSpec, answers_of, parse_metric
from tailorbird.objective.objective_file import PLACEHOLDER, SHARED_ROWS, Fault, ObjectiveFile, raise_faults
from tailorbird.objective.power import (
    GroupSizes,
    check_power,
    check_shift_power,
    comparable_items,
    highest_provable,
    margin_for,
    plan_comparison,
    provable_target,
)
from tailorbird.objective.proposal import (
    OBJECTIVE_FILE,
    TASKS,
    TEMPLATES,
    DraftFile,
    ObjectiveDraft,
    ProposedKpi,
    ProvidedFacts,
    TaskName,
    check_origins,
    draft_objective,
    draft_yaml,
    name_of,
    template_files,
    with_files,
    write_objective,
    write_template,
)
from tailorbird.objective.reader import parse_objective, parse_submitted, read_objective
from tailorbird.objective.rules import check_labels
from tailorbird.objective.schema import objective_schema

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
