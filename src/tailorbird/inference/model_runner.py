"""Model runner: plans and computes steps over one set of weights, and hands results to jobs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from tailorbird.inference.blocking_call import told
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward_factory import Forward
from tailorbird.inference.jobs import EngineJob
from tailorbird.inference.scheduling import BLOCK, BlockPool, ScheduledSlice, Scheduler, SchedulerLimits
from tailorbird.inference.text.decoding import RowSampler, choose, likeliest

_log = logging.getLogger("tailorbird.engine")


class Planned(NamedTuple):
    """One job's share of a step. ``part`` was taken under the lock: a job may be dropped while it is computed, and its memory with it."""

    slice: ScheduledSlice
    job: EngineJob
    part: Part

    @property
    def tokens(self) -> int:
        """Tokens that are computed, those of a tree too."""
        return len(self.part.tokens) + (len(self.part.tree.tokens) if self.part.tree is not None else 0)


class ModelRunner:
    """A forward pass with its memory and schedule. Used under the engine's lock, ``compute`` aside."""

    def __init__(self, forward: Forward, kv_bytes: int, limits: SchedulerLimits) -> None:
        self.forward = forward
        blocks = max(2, kv_bytes // (forward.token_nbytes * BLOCK))
        self.pool = BlockPool(blocks)
        self.scheduler = Scheduler(self.pool, replace(limits, needs=forward.needs))
        self._memory = forward.memory(blocks)
        self._jobs: dict[int, EngineJob] = {}

    @property
    def has_work(self) -> bool:
        """True while a job waits or runs."""
        return bool(self._jobs)

    @property
    def jobs(self) -> list[EngineJob]:
        """All that wait or run."""
        return list(self._jobs.values())

    def add(self, job: EngineJob) -> None:
        """``job`` waits for its turn. The memory must be able to hold it."""
        self._jobs[id(job.sequence)] = job
        self.scheduler.add(job.sequence)

    def drop(self, job: EngineJob) -> None:
        """``job`` is over: its memory is free."""
        if self._jobs.pop(id(job.sequence), None) is not None:
            blocks = job.sequence.blocks
            self.scheduler.end(job.sequence)
            self.forward.release(self._memory, blocks)

    def plan(self) -> list[Planned]:
        """The next step, the sequences of one adapter beside one another."""
        jobs = ((part, self._jobs[id(part.sequence)]) for part in self.scheduler.plan())
        step = [Planned(part, job, _part(part, job)) for part, job in jobs]
        return sorted(step, key=lambda one: id(one.part.adapter) if one.part.adapter is not None else 0)

    def compute(self, step: Sequence[Planned]) -> torch.Tensor:
        """Hidden states (ME) of what is wanted of the step, part by part."""
        return self.forward.hidden(build_batch(one.part for one in step), self._memory)

    def hand_out(self, step: Sequence[Planned], hidden_ME: torch.Tensor) -> None:
        """Gives each job its results; one that cannot take them fails, and none beside it. Jobs that ended meanwhile are passed over."""
        at, choosing = 0, list[tuple[int, EngineJob, RowSampler]]()
        for part, job, computed in step:
            if id(part.sequence) not in self._jobs:  # dropped while it was computed, which may have kept something for it anew
                self.forward.release(self._memory, computed.blocks)
            wanted = _wanted(part, job)
            if wanted and job.lease.live:
                if job.drawer is not None:
                    choosing.append((at + wanted - 1, job, job.drawer))
                else:
                    hidden_RE = hidden_ME[at : at + wanted]
                    first = max(part.start, part.sequence.watched)
                    try:
                        job.weigh(self.forward.logits, hidden_RE, first)
                    except BaseException as error:  # noqa: BLE001 - whatever it is, it ends this job alone
                        fail(job, error)
            at += wanted
        if choosing:
            self._choose(choosing, hidden_ME)

    def _choose(self, choosing: Sequence[tuple[int, EngineJob, RowSampler]], hidden_ME: torch.Tensor) -> None:
        try:
            logits_BV = self.forward.logits(hidden_ME[[row for row, _, _ in choosing]])
            likely = likeliest(logits_BV)
        except BaseException as error:  # noqa: BLE001 - as above; which of several rows it was is found out one by one
            if len(choosing) == 1:
                return fail(choosing[0][1], error)
            for one in choosing:
                self._choose([one], hidden_ME)
            return None
        for (_, job, drawer), logits_V, (greedy, finite) in zip(choosing, logits_BV, likely, strict=True):
            try:
                job.choose(choose(logits_V, drawer, greedy, finite=finite))
            except BaseException as error:  # noqa: BLE001 - as above
                fail(job, error)
        return None


def fail(job: EngineJob, error: BaseException) -> None:
    """Ends ``job`` with ``error``. Whoever cannot be told does not keep others from being answered."""
    try:
        job.lease.fail(told(error))
    except BaseException as untold:  # noqa: BLE001 - the engine's thread must go on
        _log.error("a job of the engine could not be ended", exc_info=untold)


def _wanted(part: ScheduledSlice, job: EngineJob) -> int:
    nodes = len(job.tree.tokens) if part.last and job.tree is not None else 0
    return max(0, part.stop - max(part.start, part.sequence.watched)) + nodes


def _part(part: ScheduledSlice, job: EngineJob) -> Part:
    sequence = part.sequence
    tree = job.tree if part.last and job.tree is not None and job.tree.tokens else None
    tokens = sequence.tokens[part.start : part.stop]
    return Part(job.lease.adapter, tokens, part.start, sequence.blocks, sequence.watched, tree, sequence.leaf_blocks, sequence.tokens)
