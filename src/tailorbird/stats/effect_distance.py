"""Distance of effects: whether an engine does with a release what was measured when it was made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tailorbird.domain.effect import EffectProof, EffectReading, EffectStanding, ReferenceProbe, TokenChances

#: An effect is shown from so many times the noise.
TIMES_NOISE = 5.0
#: Nats. Less than this is not told apart, however still an engine was when it was measured: under load it batches otherwise.
LEAST_NOISE = 0.005
#: So many of each side's likeliest tokens are compared at a position: the rarer ones say little and waver most.
_COMPARED = 4


def rms(values: Sequence[float]) -> float:
    """Root mean square; 0 of nothing."""
    return math.sqrt(sum(value * value for value in values) / len(values)) if values else 0.0


def compared_tokens(base: TokenChances, candidate: TokenChances) -> tuple[str, ...]:
    """The tokens that are compared at one position."""
    return tuple(dict.fromkeys((*candidate.tokens[:_COMPARED], *base.tokens[:_COMPARED])))


def shifts(probes: Sequence[ReferenceProbe], before: Sequence[TokenChances], after: Sequence[TokenChances]) -> list[float]:
    """By how many nats ``after`` lies above ``before``, at every compared token of every probe."""
    return [
        after[place].nats_of(token) - before[place].nats_of(token)
        for place, probe in enumerate(probes)
        for token in compared_tokens(probe.base, probe.candidate)
    ]


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Root mean square of the differences."""
    return rms([a - b for a, b in zip(one, other, strict=True)])


def is_provable(proof: EffectProof) -> bool:
    """True where an engine could be told from its base by ``proof``."""
    return bool(proof.probes) and proof.effect >= TIMES_NOISE * max(proof.noise, LEAST_NOISE)


def effect_reading(proof: EffectProof, candidate: Sequence[TokenChances], base: Sequence[TokenChances] | None = None) -> EffectReading:
    """What an engine showed: ``candidate`` and, where it could be asked, ``base`` are its chances at ``proof.probes``.

    The engine's noise is that of its base against the recorded base, or the recorded noise where that is more. The distance allowed is the
    geometric mean of the noise and the smallest part that this noise does not hide: as far above the one as below the other.
    """
    recorded = [probe.base for probe in proof.probes]
    wanted = shifts(proof.probes, recorded, [probe.candidate for probe in proof.probes])
    noise = max(proof.noise, LEAST_NOISE, *((math.sqrt(2) * rms(shifts(proof.probes, recorded, base)),) if base is not None else ()))
    found = shifts(proof.probes, recorded if base is None else base, candidate)
    visible = [size for size in (*proof.parts.values(), proof.effect) if size >= TIMES_NOISE * noise]
    allowed = math.sqrt(noise * min(visible)) if visible else 0.0
    apart, effect = distance(found, wanted), rms(found)
    return EffectReading(
        standing=_standing(effect, apart, allowed),
        effect=round(effect, 4),
        distance=round(apart, 4),
        noise=round(noise, 4),
        allowed=round(allowed, 4),
        unshown=tuple(kind for kind, size in proof.parts.items() if size < TIMES_NOISE * noise),
    )


def _standing(effect: float, apart: float, allowed: float) -> EffectStanding:
    if not allowed:
        return EffectStanding.DIFFERS
    if effect <= allowed:
        return EffectStanding.INERT
    return EffectStanding.SHOWN if apart <= allowed else EffectStanding.DIFFERS
