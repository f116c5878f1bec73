"""One set of weights and everything that runs on it: steps are planned, computed, and their results handed out.

In: jobs. Out: their results, told to each. Must not know: which thread runs it, what a job is for beyond its sequence and its results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from tailorbird.domain.errors import TailorbirdError
from tailorbird.inference.computing import Forward
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.scheduling import BLOCK, BlockPool, Limits, Scheduler, Sequence, Slice
from tailorbird.inference.text.sampling import Choice, Drawer, choose
from tailorbird.inference.text.trie import LabelTrie


class Job(Protocol):
    """What a sequence is computed for. ``drawer`` is set where its results are tokens to choose."""

    @property
    def sequence(self) -> Sequence:
        """Its tokens."""
        ...

    @property
    def tree(self) -> LabelTrie | None:
        """What hangs under the last token."""
        ...

    @property
    def drawer(self) -> Drawer | None:
        """How its tokens are drawn; None where they are weighed."""
        ...

    @property
    def live(self) -> bool:
        """True until it has ended."""
        ...

    @property
    def adapter(self) -> Any:
        """What it is computed with; None: the bare weights."""
        ...

    def choose(self, choice: Choice) -> None:
        """Takes the next token. May end the job."""
        ...

    def weigh(self, logits: Callable[[torch.Tensor], torch.Tensor], hidden_RE: torch.Tensor, first: int) -> None:
        """Takes the hidden states of its wanted tokens, the first of which has index ``first``. May end the job."""
        ...

    def fail(self, error: TailorbirdError) -> None:
        """Ends the job."""
        ...


class Lane:
    """A forward pass with its memory and schedule. Used under the engine's lock, ``compute`` aside."""

    def __init__(self, forward: Forward, kv_bytes: int, limits: Limits) -> None:
        self.forward = forward
        blocks = max(2, kv_bytes // (forward.token_nbytes * BLOCK))
        self.pool = BlockPool(blocks)
        self.scheduler = Scheduler(self.pool, limits)
        self._memory = forward.memory(blocks)
        self._jobs: dict[int, Job] = {}

    @property
    def has_work(self) -> bool:
        """True while a job waits or runs."""
        return bool(self._jobs)

    @property
    def jobs(self) -> list[Job]:
        """All that wait or run."""
        return list(self._jobs.values())

    def add(self, job: Job) -> None:
        """``job`` waits for its turn. The memory must be able to hold it."""
        self._jobs[id(job.sequence)] = job
        self.scheduler.add(job.sequence)

    def drop(self, job: Job) -> None:
        """``job`` is over: its memory is free."""
        if self._jobs.pop(id(job.sequence), None) is not None:
            self.scheduler.end(job.sequence)

    def plan(self) -> list[tuple[Slice, Job]]:
        """The next step, the sequences of one adapter beside one another."""
        paired = [(part, self._jobs[id(part.sequence)]) for part in self.scheduler.plan()]
        return sorted(paired, key=lambda pair: id(pair[1].adapter) if pair[1].adapter is not None else 0)

    def compute(self, step: list[tuple[Slice, Job]]) -> torch.Tensor:
        """Hidden states (ME) of what is wanted of the step, part by part."""
        batch = build_batch(_part(part, job) for part, job in step)
        return self.forward.hidden(batch, self._memory)

    def hand_out(self, step: list[tuple[Slice, Job]], hidden_ME: torch.Tensor) -> None:
        """Gives each job its results. Jobs that ended meanwhile are passed over."""
        at, rows, choosing = 0, list[int](), list[tuple[Job, Drawer]]()
        for part, job in step:
            wanted = _wanted(part, job)
            if wanted and job.live:
                if job.drawer is not None:
                    rows.append(at + wanted - 1)
                    choosing.append((job, job.drawer))
                else:
                    job.weigh(self.forward.logits, hidden_ME[at : at + wanted], max(part.start, part.sequence.watched))
            at += wanted
        if rows:
            choices = choose(self.forward.logits(hidden_ME[rows]), [drawer for _, drawer in choosing])
            for (job, _), choice in zip(choosing, choices, strict=True):
                job.choose(choice)


def _wanted(part: Slice, job: Job) -> int:
    nodes = len(job.tree.tokens) if part.last and job.tree is not None else 0
    return max(0, part.stop - max(part.start, part.sequence.watched)) + nodes


def _part(part: Slice, job: Job) -> Part:
    sequence = part.sequence
    tree = job.tree if part.last and job.tree is not None and job.tree.tokens else None
    tokens = sequence.tokens[part.start : part.stop]
    return Part(job.adapter, tokens, part.start, sequence.blocks, sequence.watched, tree, sequence.leaf_blocks)
