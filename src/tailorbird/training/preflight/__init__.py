"""What is looked at before anything is spent.

In: a training job. Out: refusals of what the run would have ended in, for the trainer; and an examination that finds everything wrong with
a job at once, for people. Must not know: the loop.
"""

from tailorbird.training.preflight.checks import check_job, check_lengths, check_packing, examine
from tailorbird.training.preflight.memory_check import held_gib

__all__ = ["check_job", "check_lengths", "check_packing", "examine", "held_gib"]
