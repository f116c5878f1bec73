"""Proof of effect: what an engine must reproduce before a release answers."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pydantic import Field

from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Value

#: So many of the likeliest tokens are told at a position: no protocol gives more.
TOLD = 20
#: Nats below which a label's score is told as no less.
LEAST_SCORE = 100.0


class TokenChances(Value):
    """The likeliest first tokens of an answer (their bytes, in hexadecimal), likeliest first, and their log-probabilities (nats). An engine
    that tells none of these gives the one token that it chose, and no number."""

    tokens: tuple[str, ...]
    nats: tuple[float, ...]

    def nats_of(self, token: str) -> float:
        """Log-probability of ``token``; where it is not among those told, that of the last one, which it does not exceed."""
        return self.nats[self.tokens.index(token)] if token in self.tokens else self.nats[-1]

    def first(self, count: int) -> TokenChances:
        """The ``count`` likeliest alone."""
        return TokenChances(tokens=self.tokens[:count], nats=self.nats[:count])


class ReferenceProbe(Value):
    """A synthetic question, and the chances of the first token of its answer: by the base alone, and by the candidate."""

    text: str
    base: TokenChances
    candidate: TokenChances

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The question as a conversation."""
        return (Message(role="user", content=self.text),)


def chances_of_labels(labels: Sequence[str], nats: Sequence[float]) -> TokenChances:
    """Scores of labels (log-probabilities, nats) as chances: the likeliest ``TOLD``."""
    ranked = sorted(zip(labels, nats, strict=True), key=lambda one: -one[1])[:TOLD]
    told = tuple(max(score, -LEAST_SCORE) for _, score in ranked)  # that of a label which is out of the question may be minus infinity
    return TokenChances(tokens=tuple(label.encode().hex() for label, _ in ranked), nats=told)


class EffectProof(Value):
    """What the candidate changes in its base, at the first token of the answers to ``probes``. Distances are root mean squares, in nats.

    ``effect`` is that between candidate and base; ``noise`` how far it moved when the probes were asked in other batches; ``parts`` how
    far the candidate is from itself without one kind of mapped module, by kind. Kinds in ``hidden`` change less than noise lets anybody
    see. ``unprovable`` says why nothing at all can be shown; then there may be no probes. ``engine`` measured it. Full weights
    (``kind``) have no base beside them where they are served: their chances are compared as they are. So are those of a prompt's ``base``,
    and a floor's or encoder's ``scores`` of its ``labels``, told as chances of those: there ``base`` and ``candidate`` are the same.
    """

    kind: Literal["adapter", "weights", "base", "scores"] = "adapter"
    labels: tuple[str, ...] = ()
    probes: tuple[ReferenceProbe, ...] = ()
    effect: float = 0.0
    noise: float = 0.0
    parts: dict[str, float] = Field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    unprovable: str = ""
    engine: str = ""

    @property
    def is_absolute(self) -> bool:
        """True where nothing was trained that a base could be compared with: what answers is compared as it is."""
        return self.kind in ("base", "scores")

    @property
    def by_wider_adapters(self) -> bool:
        """True where a native pass measured it that held adapters in 16 bits. The one of today holds them in eight, and nothing of that
        shows in its base, which answers to the bit as it did (decision 0144)."""
        return self.kind == "adapter" and self.engine.endswith((" native", " native-portable"))


class EffectStanding(StrEnum):
    """What an engine showed of a release. ``UNPROVEN``: the release is older than probes, ranks documents, or is a hosted model."""

    SHOWN = "shown"
    INERT = "inert"
    DIFFERS = "differs"
    UNPROVABLE = "unprovable"
    UNPROVEN = "unproven"


class EffectReading(Value):
    """What one engine showed: the effect that it has, its distance from the recorded one, the engine's noise, and the distance allowed.

    ``unshown`` are the kinds of modules that this engine could leave out unnoticed, given its noise.
    """

    standing: EffectStanding
    effect: float = 0.0
    distance: float = 0.0
    noise: float = 0.0
    allowed: float = 0.0
    unshown: tuple[str, ...] = ()
