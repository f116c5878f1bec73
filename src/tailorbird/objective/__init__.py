"""Objective: reads ``objective.yaml``, knows the KPIs, and says whether the data can prove the targets.

    objective_file → schema → rules → reader; power · proposal · chat_template

In: a YAML file; a snapshot's manifest. Out: a frozen objective with the line of every key; powers; errors with the line, the reason and the
nearest valid value. Must not know: rows, models, rungs.
"""

from tailorbird.objective.chat_template import chat_template_of
from tailorbird.objective.objective_file import PLACEHOLDER, SHARED_ROWS, Fault, ObjectiveFile, raise_faults
from tailorbird.objective.power import (
    GroupSizes,
    check_shift_power,
    comparable_items,
    margin_for,
    plan_comparison,
    provable_target,
    split_power,
)
from tailorbird.objective.proposal import (
    OBJECTIVE_FILE,
    TASKS,
    TEMPLATES,
    ObjectiveDraft,
    ProposedKpi,
    ProvidedFacts,
    TaskName,
    check_origins,
    draft_objective,
    draft_yaml,
    name_of,
    template_files,
    write_objective,
    write_template,
)
from tailorbird.objective.reader import parse_objective, parse_submitted, read_objective
from tailorbird.objective.rules import check_labels
from tailorbird.objective.schema import objective_schema

__all__ = [
    "OBJECTIVE_FILE",
    "PLACEHOLDER",
    "SHARED_ROWS",
    "TASKS",
    "TEMPLATES",
    "Fault",
    "GroupSizes",
    "ObjectiveDraft",
    "ObjectiveFile",
    "ProposedKpi",
    "ProvidedFacts",
    "TaskName",
    "chat_template_of",
    "check_labels",
    "check_origins",
    "check_shift_power",
    "comparable_items",
    "draft_objective",
    "draft_yaml",
    "margin_for",
    "name_of",
    "objective_schema",
    "parse_objective",
    "parse_submitted",
    "plan_comparison",
    "provable_target",
    "raise_faults",
    "read_objective",
    "split_power",
    "template_files",
    "write_objective",
    "write_template",
]
