"""Replicas of an engine: which are drained, and how each stands before a gateway."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.domain.value import Value

#: Where a replica is asked, as the settings of the gateways write it.
ReplicaAddress = Annotated[str, Field(min_length=1, max_length=500)]


class ReplicaDrain(Value):
    """A replica that is asked nothing new. It answers on for what no other holds, until another does; where it is ``forced``, not even
    that."""

    address: ReplicaAddress
    forced: bool = False


#: The drained replicas of an installation; no two have the same address.
ReplicaDrains = Annotated[tuple[ReplicaDrain, ...], Field(max_length=1000)]


class ReplicaStanding(Value):
    """A replica as one gateway sees it.

    ``answers``: it did when it was asked last. ``drained``: the gateway goes by that already. ``under_way`` are requests that this gateway
    has put to it, ``releases`` what it holds, ``alone`` how many of them no other replica does that may be asked.
    """

    address: ReplicaAddress
    answers: bool = True
    drained: bool = False
    under_way: int = 0
    releases: int = 0
    alone: int = 0

    @property
    def is_empty(self) -> bool:
        """True when it is drained, answers nothing, and nothing is left that it alone holds: it can be ended."""
        return self.drained and not self.under_way and not self.alone
