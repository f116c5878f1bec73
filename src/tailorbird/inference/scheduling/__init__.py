"""Continuous batching and KV-cache blocks: bookkeeping over numbers, without a tensor.

In: sequences to compute. Out: steps (which tokens of which sequences are computed together), memory blocks, cached prefixes. Must not
know: torch, text, servables' files.
"""

from tailorbird.inference.scheduling.blocks import BLOCK, BlockPool
from tailorbird.inference.scheduling.fair_queue import FairQueue
from tailorbird.inference.scheduling.scheduler import ScheduledSlice, Scheduler, SchedulerLimits, SequenceNeeds, TokenSequence, salt_of

__all__ = ["BLOCK", "BlockPool", "FairQueue", "ScheduledSlice", "Scheduler", "SchedulerLimits", "SequenceNeeds", "TokenSequence", "salt_of"]
