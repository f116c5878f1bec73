"""KV-cache blocks of a few tokens: allocated, shared between sequences with the same prefix, kept for reuse, freed."""

from __future__ import annotations

from collections import OrderedDict

#: Tokens in a block.
BLOCK = 16


def blocks_for(tokens: int) -> int:
    """Blocks that hold ``tokens``."""
    return -(-tokens // BLOCK)


class BlockPool:
    """``size`` blocks. Keys are opaque and unique to (salt, tokens): see ``sequence.key_after``."""

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
