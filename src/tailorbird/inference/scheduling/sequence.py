"""One prompt on its way through the engine, as the scheduler sees it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(eq=False)
class Sequence:
    """Tokens to compute, and the memory they are given.

    ``owner`` takes its fair share; ``salt`` names whose memory it is, and ``groups`` who may share it. ``room`` is how many tokens may be
    appended; ``leaves`` how many hang as a tree under the last one and are computed with it (0: none); ``watched`` the index of the first
    token whose result is wanted (by default the last of the prompt). ``computed`` counts the tokens whose keys and values stand in
    ``blocks``; ``cached`` those among them that an earlier sequence of the same salt and groups had left.
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

    def __post_init__(self) -> None:
        self.prompt = len(self.tokens)
        if self.watched < 0:
            self.watched = self.prompt - 1

    @cached_property
    def root(self) -> bytes:
        """Where the chain of its keys begins."""
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
    """Where the chain of a servable's keys begins: no two tenants and no two servables share a key."""
    return hashlib.sha256(f"{tenant}\0{servable}".encode()).digest()


def key_of(salt: bytes, groups: frozenset[str]) -> bytes:
    """Where the chains of those who ask for ``groups`` begin: what stood in the prompts of others is not to be told by time."""
    return hashlib.sha256(salt + json.dumps(sorted(groups)).encode()).digest() if groups else salt


def key_after(before: bytes, tokens: Tokens[int]) -> bytes:
    """The key of a block: a full SHA-256 over the key before it and its tokens, so that equal keys mean equal beginnings."""
    return hashlib.sha256(before + b"".join(token.to_bytes(4, "little") for token in tokens)).digest()
