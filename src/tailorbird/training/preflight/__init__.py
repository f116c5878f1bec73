"""Preflight of a training job, before anything is spent.

In: a training job. Out: refusals for the trainer, of jobs that cannot be trained; for people, an examination that finds all faults of a
job at once. Must not know: the loop.
"""

from tailorbird.training.preflight.checks import check_job, check_lengths, check_packing, examine
from tailorbird.training.preflight.memory_check import held_gib

__all__ = ["check_job", "check_lengths", "check_packing", "examine", "held_gib"]
