"""Continuous batching: sequences of tokens, KV-cache blocks, fair queueing between tenants, and the slices of each step.

Bookkeeping over numbers, without a tensor. In: sequences to compute. Out: steps (which tokens of which sequences are computed together),
memory blocks, cached prefixes. Must not know: torch, text, servables' files.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, NamedTuple, TypeVar

#: Tokens in a block.
BLOCK = 16


def blocks_for(tokens: int) -> int:
    """Blocks that hold ``tokens``."""
    return -(-tokens // BLOCK)


class BlockPool:
    """``size`` blocks. Keys are opaque and unique to (salt, tokens): see ``key_after``."""

    def __init__(self, size: int) -> None:
        self.size = size
        # The last one freed is given out first: memory that was touched is used again before new memory is.
        self._free = list(range(size - 1, -1, -1))
        self._holders = [0] * size
        self._by_key: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._salts: dict[bytes, set[bytes]] = {}
        self._salt_of: dict[bytes, bytes] = {}

    @property
    def available(self) -> int:
        """Blocks that could be taken now."""
        return len(self._free) + len(self._kept)

    @property
    def held(self) -> int:
        """Blocks in the hands of sequences."""
        return self.size - self.available

    def find(self, key: bytes) -> int | None:
        """The block with this key, now held once more; None when it is not known."""
        block = self._by_key.get(key)
        if block is not None:
            self._kept.pop(block, None)
            self._holders[block] += 1
        return block

    def take(self, count: int) -> list[int] | None:
        """``count`` blocks to write to; None, and nothing taken, when there are not enough."""
        if count > self.available:
            return None
        while len(self._free) < count:
            block, _ = self._kept.popitem(last=False)
            self._disown(block)
            self._free.append(block)
        taken = [self._free.pop() for _ in range(count)]
        for block in taken:
            self._holders[block] = 1
        return taken

    def publish(self, block: int, key: bytes, salt: bytes) -> None:
        """``block`` is full and holds what ``key`` stands for. The first block with a key keeps it."""
        if key not in self._by_key and block not in self._key_of:
            self._by_key[key], self._key_of[block] = block, key
            self._salts.setdefault(salt, set()).add(key)
            self._salt_of[key] = salt

    def release(self, blocks: list[int]) -> None:
        """Frees blocks. Those with a key stay cached, the end of a prefix the first to be evicted."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if block in self._key_of:
                self._kept[block] = None
            else:
                self._free.append(block)

    def forget(self, salt: bytes) -> None:
        """Nothing of this salt is found again."""
        for key in list(self._salts.get(salt, ())):
            block = self._by_key[key]
            self._disown(block)
            if block in self._kept:
                del self._kept[block]
                self._free.append(block)

    def _disown(self, block: int) -> None:
        key = self._key_of.pop(block)
        del self._by_key[key]
        salt = self._salt_of.pop(key)
        self._salts[salt].discard(key)
        if not self._salts[salt]:
            del self._salts[salt]


T = TypeVar("T")


def is_full(waiting: Mapping[str, int], owner: str, most: int, most_each: int) -> bool:
    """True when nothing more of ``owner`` may wait: it has ``most_each`` items, or all ``most`` places are taken and it has its share of
    them, which is the same for each owner. So no number of owners keeps another from waiting."""
    theirs = waiting.get(owner, 0)
    return theirs >= most_each or (sum(waiting.values()) >= most and theirs >= max(1, most // len({*waiting, owner})))


class FairQueue(Generic[T]):
    """Items waiting by owner, each owner's in order of arrival."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._served: dict[str, float] = {}
        self._floor = 0.0

    def __len__(self) -> int:
        return sum(len(items) for items in self._waiting.values())

    def __iter__(self) -> Iterator[T]:
        for items in self._waiting.values():
            yield from items

    def is_full_for(self, owner: str, most: int, most_each: int) -> bool:
        """As ``is_full``, of what waits here."""
        return is_full({each: len(items) for each, items in self._waiting.items()}, owner, most, most_each)

    def add(self, owner: str, item: T) -> None:
        """``item`` waits behind the others of its owner."""
        if owner not in self._waiting:
            self._waiting[owner] = deque()
            self._served[owner] = max(self._served.get(owner, 0.0), self._floor)
        self._waiting[owner].append(item)

    def next(self) -> T | None:
        """The first item of the least served owner; None when nothing waits. It stays."""
        owner = min(self._waiting, key=self._served.__getitem__, default=None)
        return None if owner is None else self._waiting[owner][0]

    def take(self, owner: str, item: T) -> None:
        """``item``, which waits, is let in."""
        self._floor = max(self._floor, self._served[owner])
        self.remove(owner, item)

    def remove(self, owner: str, item: T) -> bool:
        """Takes ``item`` out; False when it does not wait."""
        items = self._waiting.get(owner)
        if items is None or item not in items:
            return False
        items.remove(item)
        if not items:
            del self._waiting[owner]
        return True

    def charge(self, owner: str, tokens: float) -> None:
        """``owner`` was given ``tokens``."""
        self._served[owner] = self._served.get(owner, self._floor) + tokens


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
        return self._queue.is_full_for(owner, self._limits.waiting, self._limits.waiting_each)

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
        #: New tokens for which the step has room, and those taken from it for patient sequences of one root (None: they take what is left).
        left, root = self._limits.prefill if step else self._limits.alone, b""
        share: int | None = None
        if any(not sequence.patient for sequence in self._running):
            # Gives those patient sequences a share that were let in first and are computed with the same weights, as one
            # probe's are: all that they lack, or so much that enough is left for another step.
            waiting = [sequence for sequence in self._running if sequence.patient and sequence.pending]
            self._patient_steps, share = self._patient_steps + 1 if waiting else 0, 0
            if waiting and not (self._patient_steps - 1) % self._limits.patient_every:
                root = waiting[0].root
                pending = sum(sequence.pending for sequence in waiting if sequence.root == root)
                # Of a long one more, so that it ends: it would take a thousand steps.
                more = min(pending * self._limits.patient_every // _PATIENT_STEPS, self._limits.prefill // 2)
                share = max(self._limits.patient, _TOGETHER, more)
                share = pending if pending < share + _TOGETHER else share
                left -= share

        def prefill(sequence: TokenSequence) -> None:
            """Adds what of ``sequence`` the step has room for, if anything."""
            nonlocal left, share
            if not sequence.patient:
                most = left
            elif share is None:
                most = _cut(sequence.pending, left)
            else:
                most = share if sequence.root == root else 0
            if most > 0:
                step.append(part := self._slice(sequence, most))
                cost = part.stop - part.start + (sequence.leaves if part.last else 0)
                if sequence.patient and share is not None:
                    share -= cost
                else:
                    left -= cost

        for sequence in self._running:
            if sequence.pending > 1 or sequence.leaves or (sequence.patient and sequence.pending):
                prefill(sequence)
        if share is not None:
            share = 0  # those that come now begin with the next step, which knows how many there are
        while left > 0 and len(self._running) < self._limits.running:
            # Whoever is next waits until there is memory, and the others wait behind: else a large one would wait for ever.
            if (following := self._queue.next()) is None or not self._let_in(following):
                break
            self._queue.take(following.owner, following)
            self._running.append(following)
            prefill(following)
        return step

    def computed(self, step: list[ScheduledSlice]) -> None:
        """The step's keys and values stand in memory now. Sequences that were ended meanwhile are passed over."""
        for sequence, _, stop, _ in step:
            if sequence.blocks:
                self._queue.charge(sequence.owner, stop - sequence.computed)
                sequence.computed = stop
                self._publish(sequence)

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
