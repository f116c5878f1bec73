"""Continuous-batching scheduler: sequences, and the slices of each step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from tailorbird.inference.scheduling.blocks import BLOCK, BlockPool, blocks_for
from tailorbird.inference.scheduling.fair_queue import FairQueue


@dataclass(eq=False)
class TokenSequence:
    """Tokens to compute, and the memory they are given.

    ``owner`` takes its fair share; ``salt`` names whose memory it is, and ``groups`` who may share it. ``room`` is how many tokens may be
    appended; ``leaves`` how many hang as a tree under the last one and are computed with it (0: none); ``watched`` the index of the first
    token whose result is wanted (by default the last of the prompt). A ``patient`` one takes little of each step beside
    others that are not. ``computed`` counts the tokens whose keys and values stand in ``blocks``; ``cached`` those among them that an
    earlier sequence of the same salt and groups had left.
    """

    owner: str
    salt: bytes
    tokens: list[int]
    room: int = 0
    leaves: int = 0
    watched: int = -1
    computed: int = 0
    cached: int = 0
    blocks: list[int] = field(default_factory=list)
    leaf_blocks: list[int] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)
    prompt: int = 0
    groups: frozenset[str] = frozenset()
    patient: bool = False

    def __post_init__(self) -> None:
        self.prompt = len(self.tokens)
        if self.watched < 0:
            self.watched = self.prompt - 1

    @cached_property
    def root(self) -> bytes:
        """Root key of its chain of prefix keys."""
        return key_of(self.salt, self.groups)

    @property
    def pending(self) -> int:
        """Tokens not yet computed, the tree aside."""
        return len(self.tokens) - self.computed

    @property
    def longest(self) -> int:
        """Tokens it may come to have, the tree aside."""
        return self.prompt + self.room


def salt_of(tenant: str, servable: str) -> bytes:
    """Root of a servable's prefix keys: no two tenants and no two servables share a key."""
    return hashlib.sha256(f"{tenant}\0{servable}".encode()).digest()


def key_of(salt: bytes, groups: frozenset[str]) -> bytes:
    """Root of the prefix keys of callers with ``groups``, so that timing does not reveal other groups' prompts."""
    return hashlib.sha256(salt + json.dumps(sorted(groups)).encode()).digest() if groups else salt


def key_after(before: bytes, tokens: Sequence[int]) -> bytes:
    """The key of a block: a full SHA-256 over the key before it and its tokens, so that equal keys mean equal beginnings."""
    return hashlib.sha256(before + b"".join(token.to_bytes(4, "little") for token in tokens)).digest()


class ScheduledSlice(NamedTuple):
    """Tokens ``start`` to ``stop`` of a sequence, computed in this step; with the ``last`` comes its tree."""

    sequence: TokenSequence
    start: int
    stop: int
    last: bool


class SequenceNeeds(NamedTuple):
    """What a forward pass needs of the schedule. ``shares``: sequences may share blocks of a common beginning; ``whole``: a prompt is
    computed in one step; ``blocks`` are taken by each sequence beside those of its tokens."""

    shares: bool = True
    whole: bool = False
    blocks: int = 0


_NO_NEEDS = SequenceNeeds()
#: Steps over which what patient sequences lack is spread, as long as that is more than their few tokens a step.
_PATIENT_STEPS = 64
#: Tokens of patient sequences of one root that are computed together, at least: products of one to four rows are summed in another order
#: (kernels.cpp), and what a probe shows of a weak adapter would be as far from what was recorded as a wrong mapping is.
_TOGETHER = 8


@dataclass(frozen=True)
class SchedulerLimits:
    """``running`` sequences at a time; ``prefill`` new tokens a step beside sequences that are being continued, ``alone`` without them;
    ``patient`` new tokens of patient sequences beside others, in one of ``patient_every`` steps; ``waiting`` sequences in all and
    ``waiting_each`` of one owner; what the forward pass ``needs``."""

    running: int = 64
    prefill: int = 256
    alone: int = 1024
    patient: int = 8
    patient_every: int = 4
    waiting: int = 4096
    waiting_each: int = 4096
    needs: SequenceNeeds = _NO_NEEDS


def _cut(pending: int, room: int) -> int:
    """Tokens of a patient sequence that fit: all that it lacks, or so many that neither they nor what is left are few; else none yet."""
    some = min(room, pending - _TOGETHER)
    return room if pending <= room else some if some >= _TOGETHER else 0


class _Room:
    """New tokens for which a step has room: ``left`` in all. Beside others, patient sequences of one ``root`` have a share that was taken
    from it."""

    def __init__(self, left: int) -> None:
        self.left = left
        self._share: int | None = None
        self._root = b""

    def share(self, count: int, root: bytes = b"") -> None:
        """Patient sequences of ``root`` are given so many, and others none."""
        self._share, self._root = count, root
        self.left -= count

    def of(self, sequence: TokenSequence) -> int:
        """Tokens of ``sequence`` that may be added; none where it is 0 or less."""
        if not sequence.patient:
            return self.left
        if self._share is None:
            return _cut(sequence.pending, self.left)
        return self._share if sequence.root == self._root else 0

    def take(self, part: ScheduledSlice) -> None:
        """``part`` was added."""
        cost = part.stop - part.start + (part.sequence.leaves if part.last else 0)
        if part.sequence.patient and self._share is not None:
            self._share -= cost
        else:
            self.left -= cost


class Scheduler:
    """Sequences that wait and that run. Not thread-safe."""

    def __init__(self, pool: BlockPool, limits: SchedulerLimits) -> None:
        self._pool = pool
        self._limits = limits
        self._queue: FairQueue[TokenSequence] = FairQueue()
        self._running: list[TokenSequence] = []
        self._patient_steps = 0

    @property
    def waiting(self) -> int:
        """Sequences that were not let in yet."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Sequences that are being computed."""
        return len(self._running)

    def fits(self, sequence: TokenSequence) -> bool:
        """True when the whole memory could hold it."""
        return self._need(sequence) <= self._pool.size

    def is_full_for(self, owner: str) -> bool:
        """True when nothing more of ``owner`` may wait."""
        return len(self._queue) >= self._limits.waiting or self._queue.waiting_of(owner) >= self._limits.waiting_each

    def add(self, sequence: TokenSequence) -> None:
        """``sequence`` waits for its turn. It must fit."""
        self._queue.add(sequence.owner, sequence)

    def end(self, sequence: TokenSequence) -> None:
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
        step = [self._slice(one, 1) for one in self._running if one.pending == 1 and not (one.leaves or one.patient)]
        room = _Room(self._limits.prefill if step else self._limits.alone)
        if beside := any(not sequence.patient for sequence in self._running):
            self._share_out(room)
        for sequence in self._running:
            if sequence.pending > 1 or sequence.leaves or (sequence.patient and sequence.pending):
                self._prefill(sequence, room, step)
        if beside:
            room.share(0)  # those that come now begin with the next step, which knows how many there are
        while room.left > 0 and len(self._running) < self._limits.running:
            # Whoever is next waits until there is memory, and the others wait behind: else a large one would wait for ever.
            if (following := self._queue.next()) is None or not self._let_in(following):
                break
            self._queue.take(following.owner, following)
            self._running.append(following)
            self._prefill(following, room, step)
        return step

    def computed(self, step: list[ScheduledSlice]) -> None:
        """The step's keys and values stand in memory now. Sequences that were ended meanwhile are passed over."""
        for sequence, _, stop, _ in step:
            if sequence.blocks:
                self._queue.charge(sequence.owner, stop - sequence.computed)
                sequence.computed = stop
                self._publish(sequence)

    def _share_out(self, room: _Room) -> None:
        """Gives those patient sequences a share that were let in first and are computed with the same weights, as one probe's are: all
        that they lack, or so much that enough is left for another step."""
        waiting = [sequence for sequence in self._running if sequence.patient and sequence.pending]
        self._patient_steps = self._patient_steps + 1 if waiting else 0
        if not waiting or (self._patient_steps - 1) % self._limits.patient_every:
            return room.share(0)
        root = waiting[0].root
        pending = sum(sequence.pending for sequence in waiting if sequence.root == root)
        # Of a long one more, so that it ends: it would take a thousand steps.
        more = min(pending * self._limits.patient_every // _PATIENT_STEPS, self._limits.prefill // 2)
        share = max(self._limits.patient, _TOGETHER, more)
        return room.share(pending if pending < share + _TOGETHER else share, root)

    def _prefill(self, sequence: TokenSequence, room: _Room, step: list[ScheduledSlice]) -> None:
        """Adds what of ``sequence`` the step has room for, if anything."""
        if (most := room.of(sequence)) > 0:
            step.append(self._slice(sequence, most))
            room.take(step[-1])

    def _slice(self, sequence: TokenSequence, room: int) -> ScheduledSlice:
        whole = self._limits.needs.whole
        stop = len(sequence.tokens) if whole else min(len(sequence.tokens), sequence.computed + room)
        return ScheduledSlice(sequence, sequence.computed, stop, stop == len(sequence.tokens))

    def _need(self, sequence: TokenSequence) -> int:
        return blocks_for(sequence.longest) + self._beside(sequence)

    def _beside(self, sequence: TokenSequence) -> int:
        return blocks_for(sequence.leaves) + self._limits.needs.blocks

    def _let_in(self, sequence: TokenSequence) -> bool:
        """Gives a sequence its memory, the beginning that is known already included; False, and nothing given, when there is not enough."""
        known = self._known(sequence)
        taken = self._pool.take(self._need(sequence) - len(known))
        if taken is None:
            self._pool.release(known)
            return False
        leaves = self._beside(sequence)
        sequence.leaf_blocks, sequence.blocks = taken[:leaves], known + taken[leaves:]
        sequence.computed = sequence.cached = len(known) * BLOCK
        return True

    def _known(self, sequence: TokenSequence) -> list[int]:
        """Blocks with the beginning of the prompt, as far as no result is wanted."""
        known: list[int] = []
        if not self._limits.needs.shares:
            return known
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

    def _publish(self, sequence: TokenSequence) -> None:
        if not self._limits.needs.shares:
            return
        for index in range(len(sequence.keys), sequence.computed // BLOCK):
            before = sequence.keys[-1] if sequence.keys else sequence.root
            sequence.keys.append(key_after(before, sequence.tokens[index * BLOCK : (index + 1) * BLOCK]))
            self._pool.publish(sequence.blocks[index], sequence.keys[-1], sequence.salt)
