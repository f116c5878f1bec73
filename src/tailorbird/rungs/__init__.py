"""Rungs: how each way to adapt makes its candidate.

    context → indexes · label_thresholds · answer_journal → floor → scope · label_set_head → prompt → hosted_model |
    ranking | training | encoder | prompt_search (demonstration_sets, prompt_trials) → dispatch; adapter_variants

In: an objective, training rows, ports. Out: a candidate, with the report of its training. Must not know: dev and test results, gates, what
the next rung is.
"""

from tailorbird.rungs.context import ReusableTraining, RungContext, RungResult, local_retrieval
from tailorbird.rungs.dispatch import make_candidate
from tailorbird.rungs.encoder import (
    TunedLabels,
    averaged_rows,
    encoder_job,
    fit_label_set_head,
    held_out_groups,
    label_set_texts,
    prototype_fit,
)
from tailorbird.rungs.floor import FloorModel, fit_floor, remembered, trial_of, with_references
from tailorbird.rungs.label_thresholds import goal_of
from tailorbird.rungs.prompt_search import AnswerJournal
from tailorbird.rungs.training import module_kinds, training_job, without_kind

__all__ = [
    "AnswerJournal",
    "FloorModel",
    "ReusableTraining",
    "RungContext",
    "RungResult",
    "TunedLabels",
    "averaged_rows",
    "encoder_job",
    "fit_floor",
    "fit_label_set_head",
    "goal_of",
    "held_out_groups",
    "label_set_texts",
    "local_retrieval",
    "make_candidate",
    "module_kinds",
    "prototype_fit",
    "remembered",
    "training_job",
    "trial_of",
    "with_references",
    "without_kind",
]
