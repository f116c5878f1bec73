"""Key service: wraps data keys with a key that it keeps to itself.

In: a data key, and what it belongs to. Out: its wrapped form, which tells nothing without the service. Must not know: what is encrypted
with the key, tenants, tables.
"""

from __future__ import annotations

from typing import Protocol


class KeyService(Protocol):
    """Holds a workspace's key. Implementations need no state of ours."""

    @property
    def name(self) -> str:
        """What it is, for people: never a secret."""
        ...

    def wrap(self, key: bytes, context: str) -> str:
        """The wrapped form of ``key``, under the newest version of the workspace's key, bound to ``context``.

        Raises Unavailable (it does not answer, or not in time), Forbidden (it refuses us), Corrupt (what it answers is no answer).
        """
        ...

    def unwrap(self, wrapped: str, context: str) -> bytes:
        """The key that was wrapped for ``context``, by this version of the workspace's key or an earlier one.

        Raises Unavailable, Forbidden, Corrupt (not wrapped by this key, or for another context).
        """
        ...
