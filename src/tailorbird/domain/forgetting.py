"""What training may have cost: what the base model could do and the candidate cannot, and what of its rows the candidate gives away."""

from __future__ import annotations

from tailorbird.domain.value import Value


class Retained(Value):
    """One family of probes: the shares that base and candidate got right. ``drop`` is base minus candidate, with its interval."""

    family: str
    n: int
    base: float
    candidate: float
    drop: float
    low: float
    high: float


class Retention(Value):
    """Base against candidate on the same probes. ``lost`` only the base got right, ``won`` only the candidate; ``p_value`` is two-sided
    exact McNemar. ``divergence`` is KL(base ‖ candidate) of next-token distributions on neutral text, in nats per token."""

    families: tuple[Retained, ...]
    overall: Retained
    lost: int
    won: int
    p_value: float
    confidence: float
    divergence: float
    divergence_tokens: int


class Memorisation(Value):
    """What of the strings planted in training can be got back.

    ``extracted`` of ``planted`` came back word for word; ``extractable_share`` is the upper bound on that share. ``exposures`` tell in bits
    how far up each planted string ranks among ``twins`` that were not planted (0 to log2(twins + 1); 1.44 on average for a model that never
    saw it), ``p_value`` whether such ranks are chance. ``received`` is True when every planted string carried loss before the weights that
    were kept; ``control_rank`` is the rank of the control, which was planted many times: 1 when it was found.
    """

    planted: int
    extracted: int
    extractable_share: float
    twins: int
    exposures: tuple[float, ...]
    p_value: float
    received: bool
    control_rank: int

    @property
    def valid(self) -> bool:
        """True when the look could have found something: all strings were learned from, and the control was found."""
        return self.received and self.control_rank == 1
