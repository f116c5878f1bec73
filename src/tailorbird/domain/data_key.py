"""A tenant's data key: in memory, and in wrapped form as the record keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from tailorbird.domain.value import Name, Value


@dataclass(frozen=True)
class DataKey:
    """32 random bytes of one tenant. ``scope`` is random, too: it names the folder of what the key has encrypted, and tells nothing."""

    scope: str
    secret: bytes = field(repr=False)


class WrappedKey(Value):
    """``wrapped`` opens with the workspace's key alone; ``fingerprint`` is what the key within is known by. The row goes with the tenant,
    and what the key has encrypted is then noise."""

    tenant: Name
    scope: str
    wrapped: str
    fingerprint: str
    at: datetime
