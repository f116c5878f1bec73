"""Distance of effects: whether an engine does with a release what was measured when it was made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tailorbird.domain.effect import EffectProof, EffectReading, EffectStanding, ReferenceProbe, TokenChances

#: An effect is shown from so many times the noise.
TIMES_NOISE = 5.0
#: Nats. Less than this is not told apart, however still an engine was when it was measured: under load it batches otherwise.
LEAST_NOISE = 0.005
#: Nats. No rounding moves a base so far: it is another model, or another prompt around the question.
MOST_NOISE = 0.75
#: Nats. What the scores of a floor or an encoder move by at most between processors.
MOST_SCORE_NOISE = 0.25
#: Nats by which a first token must be ahead so that another precision chooses it, too.
_SURELY_CHOSEN = 1.0
#: Nats. What a native pass with adapters in eight bits strays from one with 16, whose base answers alike.
WIDER_ADAPTERS_NOISE = 0.05
#: A choice is clear from so many times the noise: engines of another precision must make it, too.
_TIMES_CLEAR = 20.0
#: So many of each side's likeliest tokens are compared at a position: the rarer ones say little and waver most.
_COMPARED = 4


def rms(values: Sequence[float]) -> float:
    """Root mean square; 0 of nothing."""
    return math.sqrt(sum(value * value for value in values) / len(values)) if values else 0.0


def compared_tokens(*sides: TokenChances) -> tuple[str, ...]:
    """The tokens that are compared at one position: the likeliest of each side."""
    return tuple(dict.fromkeys(token for side in sides for token in side.tokens[:_COMPARED]))


def shifts(
    probes: Sequence[ReferenceProbe],
    before: Sequence[TokenChances],
    after: Sequence[TokenChances],
    found: Sequence[TokenChances] | None = None,
) -> list[float]:
    """By how many nats ``after`` lies above ``before``, at every compared token of every probe: those likeliest by base and candidate, and
    by what was ``found``, so that an answer which neither would give shows."""
    return [
        after[place].nats_of(token) - before[place].nats_of(token)
        for place, probe in enumerate(probes)
        for token in compared_tokens(probe.candidate, probe.base, *((found[place],) if found else ()))
    ]


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Root mean square of the differences."""
    return rms([a - b for a, b in zip(one, other, strict=True)])


def is_provable(proof: EffectProof) -> bool:
    """True where an engine could be told from its base, or from another one, by ``proof``."""
    if proof.is_absolute:
        return bool(proof.probes) and not proof.unprovable
    return bool(proof.probes) and proof.effect >= TIMES_NOISE * max(proof.noise, LEAST_NOISE)


def effect_reading(proof: EffectProof, candidate: Sequence[TokenChances], base: Sequence[TokenChances] | None = None) -> EffectReading:
    """What an engine showed: ``candidate`` and, where it could be asked, ``base`` are its chances at ``proof.probes``.

    The engine's noise is that of its base against the recorded base, or the recorded noise where that is more; that of adapters which are
    held otherwise than when they were measured shows in no base, and is granted. An engine whose base could
    not be asked is granted the most that the effect shows through. The distance allowed is the geometric mean of the noise and the smallest
    part that this noise does not hide: as far above the one as below the other. Where it hides the whole effect, an engine that is as near
    as its noise lets it be shows nothing (``UNPROVABLE``). A base that is farther off than rounding makes it is another one; so is one that
    is nearer to the candidate than to itself, unless the candidate stands above it as recorded: then both strayed alike.
    """
    if proof.is_absolute:
        return _absolute_reading(proof, candidate)
    if not all(chances.nats for chances in candidate):
        return _greedy_reading(proof, candidate)
    beside = base if base is not None and all(chances.nats for chances in base) else None
    proof, candidate, beside = _as_told(proof, candidate, beside)
    recorded, expected = [probe.base for probe in proof.probes], [probe.candidate for probe in proof.probes]
    wanted = shifts(proof.probes, recorded, expected)
    strayed = [] if beside is None else shifts(proof.probes, recorded, beside)
    own = 0.999 * rms(wanted) / TIMES_NOISE if beside is None else math.sqrt(2) * rms(strayed)
    held_otherwise = WIDER_ADAPTERS_NOISE if proof.by_wider_adapters else 0.0
    noise, beneath = max(proof.noise, LEAST_NOISE, own, held_otherwise), beside or recorded
    visible = [size for size in (*proof.parts.values(), rms(wanted)) if size >= TIMES_NOISE * noise]
    allowed = math.sqrt(noise * min(visible, default=TIMES_NOISE * noise))
    apart = distance(shifts(proof.probes, beneath, candidate, candidate), shifts(proof.probes, recorded, expected, candidate))
    effect = rms(shifts(proof.probes, beneath, candidate))
    another = beside is not None and (noise > MOST_NOISE or (distance(strayed, wanted) < rms(strayed) and apart > rms(wanted) / 2))
    return EffectReading(
        standing=EffectStanding.DIFFERS if another else _standing(effect, apart, allowed, hidden=not visible),
        effect=round(effect, 4),
        distance=round(apart, 4),
        noise=round(noise, 4),
        allowed=round(allowed, 4),
        unshown=tuple(kind for kind, size in proof.parts.items() if size < TIMES_NOISE * noise),
    )


def _absolute_reading(proof: EffectProof, found: Sequence[TokenChances]) -> EffectReading:
    """What answers, compared as it is: it is another model, or another head, where it is farther off than rounding makes it."""
    if not all(chances.nats for chances in found):
        return _chosen_reading(proof, found)
    proof, found, _ = _as_told(proof, found, None)
    apart = rms(shifts(proof.probes, [probe.base for probe in proof.probes], found, found))
    allowed = MOST_SCORE_NOISE if proof.kind == "scores" else MOST_NOISE
    standing = EffectStanding.SHOWN if apart <= allowed else EffectStanding.DIFFERS
    return EffectReading(standing=standing, distance=round(apart, 4), noise=round(proof.noise, 4), allowed=allowed)


def _chosen_reading(proof: EffectProof, chosen: Sequence[TokenChances]) -> EffectReading:
    """The same by the tokens that were chosen alone, where the recorded one was clearly ahead. Servers leave out a blank before the first
    word, and write nothing of a control token: such a choice tells nothing."""
    sides = [(probe.base, _written(one)) for probe, one in zip(proof.probes, chosen, strict=True)]
    clear = [(_word(base.tokens[0]), found) for base, found in sides if found and len(base.nats) > 1 and _is_ahead(base)]
    told = [(wanted, found) for wanted, found in clear if wanted]
    if not told:
        return EffectReading(standing=EffectStanding.UNPROVABLE, noise=proof.noise)
    same = all(wanted == found for wanted, found in told)
    return EffectReading(standing=EffectStanding.SHOWN if same else EffectStanding.DIFFERS, noise=proof.noise)


def _is_ahead(chances: TokenChances) -> bool:
    return chances.nats[0] - chances.nats[1] > _SURELY_CHOSEN


def _written(chances: TokenChances) -> str:
    return _word(chances.tokens[0]) if chances.tokens else ""


def _word(token: str) -> str:
    """A token as servers write it at the beginning of an answer; nothing for a control token and for half a character."""
    text = bytes.fromhex(token).decode(errors="replace").strip()
    return "" if "\ufffd" in text or (text.startswith("<") and text.endswith(">")) else text


def _as_told(
    proof: EffectProof, candidate: Sequence[TokenChances], base: Sequence[TokenChances] | None
) -> tuple[EffectProof, Sequence[TokenChances], Sequence[TokenChances] | None]:
    """All of it cut, at each probe, to as many tokens as every side tells of: an engine that tells of five and a record of twenty put other
    numbers in the place of tokens that are not told. The parts shrink as the effect does."""
    found = [side for side in (candidate, base) if side]
    every = [(probe.base, probe.candidate, *(side[place] for side in found)) for place, probe in enumerate(proof.probes)]
    cut = [[chances.first(min(len(one.tokens) for one in sides)) for chances in sides] for sides in every]
    probes = tuple(
        probe.model_copy(update={"base": sides[0], "candidate": sides[1]}) for probe, sides in zip(proof.probes, cut, strict=True)
    )
    share = min(1.0, _effect(probes) / (_effect(proof.probes) or 1.0))
    parts = {kind: size * share for kind, size in proof.parts.items()}
    known = proof.model_copy(update={"probes": probes, "parts": parts})
    return known, [sides[2] for sides in cut], [sides[3] for sides in cut] if base else None


def _effect(probes: Sequence[ReferenceProbe]) -> float:
    return rms(shifts(probes, [probe.base for probe in probes], [probe.candidate for probe in probes]))


def _standing(effect: float, apart: float, allowed: float, *, hidden: bool) -> EffectStanding:
    if apart <= allowed:
        return EffectStanding.UNPROVABLE if hidden else EffectStanding.SHOWN
    return EffectStanding.INERT if effect <= allowed else EffectStanding.DIFFERS


def _greedy_reading(proof: EffectProof, chosen: Sequence[TokenChances]) -> EffectReading:
    """What the chosen tokens alone show: that the base does not answer, where it would have chosen otherwise. Of the parts they show none.

    Probes count at which the candidate clearly chooses what its base clearly would not.
    """
    clear = _TIMES_CLEAR * max(proof.noise, LEAST_NOISE)
    sides = zip(proof.probes, chosen, strict=True)
    told = [(probe.base.tokens[0], probe.candidate.tokens[0], one.tokens[:1]) for probe, one in sides if _is_clear(probe, clear)]
    unshown = tuple(proof.parts)
    if not told:
        return EffectReading(standing=EffectStanding.UNPROVABLE, unshown=unshown)
    if all(found == (candidate,) for _, candidate, found in told):
        return EffectReading(standing=EffectStanding.SHOWN, effect=proof.effect, noise=proof.noise, unshown=unshown)
    inert = all(found == (base,) for base, _, found in told)
    return EffectReading(standing=EffectStanding.INERT if inert else EffectStanding.DIFFERS, noise=proof.noise, unshown=unshown)


def _is_clear(probe: ReferenceProbe, margin: float) -> bool:
    """True where the candidate chooses a token that its base would not choose, each by more than ``margin`` nats."""
    base, candidate = probe.base, probe.candidate
    return len(candidate.nats) > 1 and min(candidate.nats[0] - candidate.nats[1], base.nats[0] - base.nats_of(candidate.tokens[0])) > margin
