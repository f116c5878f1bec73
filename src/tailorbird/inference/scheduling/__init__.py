"""What runs next, and where its keys and values lie: pure bookkeeping over numbers, without a tensor.

In: sequences that want to be computed. Out: steps (which tokens of which sequences are computed together), blocks of memory, beginnings
that were computed before. Must not know: torch, text, servables' files.
"""

from tailorbird.inference.scheduling.blocks import BLOCK, BlockPool
from tailorbird.inference.scheduling.scheduler import FairQueue, ScheduledSlice, Scheduler, SchedulerLimits, TokenSequence, salt_of

__all__ = ["BLOCK", "BlockPool", "FairQueue", "ScheduledSlice", "Scheduler", "SchedulerLimits", "TokenSequence", "salt_of"]
