"""Continuous batching: at every step whoever can go on goes on, and whoever waits comes in as soon as there is room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tailorbird.inference.scheduling.blocks import BLOCK, BlockPool, blocks_for
from tailorbird.inference.scheduling.fairness import FairQueue
from tailorbird.inference.scheduling.sequence import Sequence, key_after


class ScheduledSlice(NamedTuple):
    """Tokens ``start`` to ``stop`` of a sequence, computed in this step; with the ``last`` comes its tree."""

    sequence: Sequence
    start: int
    stop: int
    last: bool


@dataclass(frozen=True)
class SchedulerLimits:
    """``running`` sequences at a time; ``prefill`` new tokens a step beside sequences that are being continued, ``alone`` without them;
    ``waiting`` sequences in all and ``waiting_each`` of one owner."""

    running: int = 64
    prefill: int = 256
    alone: int = 1024
    waiting: int = 4096
    waiting_each: int = 4096


class Scheduler:
    """Sequences that wait and that run. Not thread-safe."""

    def __init__(self, pool: BlockPool, limits: SchedulerLimits) -> None:
        self._pool = pool
        self._limits = limits
        self._queue: FairQueue[Sequence] = FairQueue()
        self._running: list[Sequence] = []

    @property
    def waiting(self) -> int:
        """Sequences that were not let in yet."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Sequences that are being computed."""
        return len(self._running)

    def fits(self, sequence: Sequence) -> bool:
        """True when the whole memory could hold it."""
        return self._need(sequence) <= self._pool.size

    def is_full_for(self, owner: str) -> bool:
        """True when nothing more of ``owner`` may wait."""
        return len(self._queue) >= self._limits.waiting or self._queue.waiting_of(owner) >= self._limits.waiting_each

    def add(self, sequence: Sequence) -> None:
        """``sequence`` waits for its turn. It must fit."""
        self._queue.add(sequence.owner, sequence)

    def end(self, sequence: Sequence) -> None:
        """It has what it wanted, or nobody wants it any more: its memory is free. Ending twice does nothing."""
        if sequence in self._running:
            self._running.remove(sequence)
            self._pool.release(sequence.leaf_blocks)
            self._pool.release(sequence.blocks)
            sequence.blocks, sequence.leaf_blocks = [], []
        else:
            self._queue.remove(sequence.owner, sequence)

    def forget(self, salt: bytes) -> None:
        """No beginning of this salt is found again."""
        self._pool.forget(salt)

    def plan(self) -> list[ScheduledSlice]:
        """The next step; empty when there is nothing to compute."""
        step = [self._slice(sequence, 1) for sequence in self._running if sequence.pending == 1 and not sequence.leaves]
        room = self._limits.prefill if step else self._limits.alone
        for sequence in self._running:
            if room > 0 and (sequence.pending > 1 or sequence.leaves):
                step.append(self._slice(sequence, room))
                room -= _cost(step[-1])
        while room > 0 and len(self._running) < self._limits.running:
            # Whoever is next waits until there is memory, and the others wait behind: else a large one would wait for ever.
            if (following := self._queue.next()) is None or not self._let_in(following):
                break
            self._queue.take(following.owner, following)
            self._running.append(following)
            step.append(self._slice(following, room))
            room -= _cost(step[-1])
        return step

    def computed(self, step: list[ScheduledSlice]) -> None:
        """The step's keys and values stand in memory now. Sequences that were ended meanwhile are passed over."""
        for sequence, _, stop, _ in step:
            if sequence.blocks:
                self._queue.charge(sequence.owner, stop - sequence.computed)
                sequence.computed = stop
                self._publish(sequence)

    def _slice(self, sequence: Sequence, room: int) -> ScheduledSlice:
        stop = min(len(sequence.tokens), sequence.computed + room)
        return ScheduledSlice(sequence, sequence.computed, stop, stop == len(sequence.tokens))

    def _need(self, sequence: Sequence) -> int:
        return blocks_for(sequence.longest) + blocks_for(sequence.leaves)

    def _let_in(self, sequence: Sequence) -> bool:
        """Gives a sequence its memory, the beginning that is known already included; False, and nothing given, when there is not enough."""
        known = self._known(sequence)
        taken = self._pool.take(self._need(sequence) - len(known))
        if taken is None:
            self._pool.release(known)
            return False
        leaves = blocks_for(sequence.leaves)
        sequence.leaf_blocks, sequence.blocks = taken[:leaves], known + taken[leaves:]
        sequence.computed = sequence.cached = len(known) * BLOCK
        return True

    def _known(self, sequence: Sequence) -> list[int]:
        """Blocks with the beginning of the prompt, as far as no result is wanted."""
        known: list[int] = []
        key = sequence.root
        for start in range(0, sequence.watched - BLOCK + 1, BLOCK):
            key = key_after(key, sequence.tokens[start : start + BLOCK])
            block = self._pool.find(key)
            if block is None:
                break
            known.append(block)
            sequence.keys[len(known) - 1 :] = [key]
        del sequence.keys[len(known) :]
        return known

    def _publish(self, sequence: Sequence) -> None:
        for index in range(len(sequence.keys), sequence.computed // BLOCK):
            before = sequence.keys[-1] if sequence.keys else sequence.root
            sequence.keys.append(key_after(before, sequence.tokens[index * BLOCK : (index + 1) * BLOCK]))
            self._pool.publish(sequence.blocks[index], sequence.keys[-1], sequence.salt)


def _cost(part: ScheduledSlice) -> int:
    return part.stop - part.start + (part.sequence.leaves if part.last else 0)
