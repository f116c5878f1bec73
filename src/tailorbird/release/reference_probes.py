"""Reference probes: which synthetic questions a release is recognised by, and how far answers at them are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tailorbird.domain.evidence import TOLD, EffectProof, EffectReading, EffectStanding, ReferenceProbe, TokenChances

#: An effect is shown from so many times the noise.
TIMES_NOISE = 5.0
#: Nats. Less than this is not told apart, however still an engine was when it was measured: under load it batches otherwise.
LEAST_NOISE = 0.005
#: Nats. No rounding moves a base so far: it is another model, or another prompt around the question.
MOST_NOISE = 0.75
#: Nats. What the scores of a floor or an encoder move by at most between processors.
MOST_SCORE_NOISE = 0.25
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

    The engine's noise is that of its base against the recorded base, or the recorded noise where that is more. An engine whose base could
    not be asked is granted the most that the effect shows through. The distance allowed is the geometric mean of the noise and the smallest
    part that this noise does not hide: as far above the one as below the other. Where it hides the whole effect, an engine that is as near
    as its noise lets it be shows nothing (``UNPROVABLE``). A base that is farther off than rounding makes it is another one; so is one that
    is nearer to the candidate than to itself, unless the candidate stands above it as recorded: then both strayed alike. Where nothing was
    trained, what answers is compared as it is: farther off than rounding makes it, it is another model or another head.
    """
    recorded, expected = [probe.base for probe in proof.probes], [probe.candidate for probe in proof.probes]
    if proof.is_absolute:
        apart, allowed = (
            rms(shifts(proof.probes, recorded, candidate, candidate)),
            MOST_SCORE_NOISE if proof.kind == "scores" else MOST_NOISE,
        )
        standing = EffectStanding.SHOWN if apart <= allowed else EffectStanding.DIFFERS
        return EffectReading(standing=standing, distance=round(apart, 4), noise=round(proof.noise, 4), allowed=allowed)
    wanted = shifts(proof.probes, recorded, expected)
    strayed = [] if base is None else shifts(proof.probes, recorded, base)
    own = 0.999 * rms(wanted) / TIMES_NOISE if base is None else math.sqrt(2) * rms(strayed)
    noise, beneath = max(proof.noise, LEAST_NOISE, own), base or recorded
    visible = [size for size in (*proof.parts.values(), rms(wanted)) if size >= TIMES_NOISE * noise]
    allowed = math.sqrt(noise * min(visible, default=TIMES_NOISE * noise))
    apart = distance(shifts(proof.probes, beneath, candidate, candidate), shifts(proof.probes, recorded, expected, candidate))
    effect = rms(shifts(proof.probes, beneath, candidate))
    another = base is not None and (noise > MOST_NOISE or (distance(strayed, wanted) < rms(strayed) and apart > rms(wanted) / 2))
    if apart <= allowed:
        standing = EffectStanding.SHOWN if visible else EffectStanding.UNPROVABLE
    else:
        standing = EffectStanding.INERT if effect <= allowed else EffectStanding.DIFFERS
    return EffectReading(
        standing=EffectStanding.DIFFERS if another else standing,
        effect=round(effect, 4),
        distance=round(apart, 4),
        noise=round(noise, 4),
        allowed=round(allowed, 4),
    )


#: Questions of everybody's day, written for this project and short: what is asked at each loading must cost little.
PROBE_TEXTS = (
    "Where is my order?",
    "Please cancel it.",
    "The app does not open.",
    "I was charged twice.",
    "Is this allowed?",
    "What happened yesterday?",
    "Summarise: rain, then sun.",
    "Thank you, that helped.",
    "How do I change my password?",
    "It arrived broken.",
    "Give me one example.",
    "I cannot log in.",
)
#: Probes that a release is given: all are asked in one batch, at each loading.
CHOSEN = 4
#: Probes whose parts are measured before so many are chosen.
SHORTLISTED = 6

#: Chances at each probe.
Readings = Sequence[TokenChances]


def shortlist(probes: Sequence[ReferenceProbe]) -> tuple[int, ...]:
    """Places of the probes at which the candidate is farthest from its base, the farthest first."""
    apart = [rms(_shifts([probe])) for probe in probes]
    return tuple(sorted(range(len(probes)), key=lambda place: -apart[place])[:SHORTLISTED])


def choose(probes: Sequence[ReferenceProbe], parts: Mapping[str, Readings], again: Sequence[tuple[Readings, Readings]]) -> EffectProof:
    """Proof from at most ``CHOSEN`` of ``probes``: those in which the part of the candidate that shows least shows most.

    ``parts``: the candidate without one kind of module, by kind; ``again``: base and candidate when asked again, in other batches.
    """
    places = _chosen(probes, parts)
    some = [probes[place] for place in places]
    noise = max((_wavering(some, places, *sides) for sides in again), default=0.0)
    sizes = {kind: round(_part(some, [readings[place] for place in places]), 4) for kind, readings in parts.items()}
    effect = rms(_shifts(some))
    bound = TIMES_NOISE * max(noise, LEAST_NOISE)
    hidden = tuple(kind for kind, size in sizes.items() if size < bound)
    reason = "" if effect >= bound else f"candidate and base are {effect:.3f} nats apart, less than {bound:.3f}, on every probe"
    return EffectProof(probes=tuple(some), effect=round(effect, 4), noise=round(noise, 4), parts=sizes, hidden=hidden, unprovable=reason)


def choose_of_base(probes: Sequence[ReferenceProbe], again: Sequence[Readings]) -> EffectProof:
    """Proof that a prompt's base answers, from the ``CHOSEN`` probes at which it is surest of its first token: they tell most to an engine
    that tells what it chooses alone. ``again``: the base when asked again, in other batches."""
    sure = sorted(range(len(probes)), key=lambda place: -_lead(probes[place].base))[:CHOSEN]
    some = [probes[place] for place in sure]
    wavered = [rms(shifts(some, [probe.base for probe in some], [readings[place] for place in sure])) for readings in again]
    return EffectProof(kind="base", probes=tuple(some), noise=round(max(wavered, default=0.0), 4))


def choose_of_scores(probes: Sequence[ReferenceProbe], labels: Sequence[str]) -> EffectProof:
    """Proof that a floor or an encoder scores as it did, from the ``CHOSEN`` probes whose scores are least like those of the others."""
    typical = {label: sum(probe.base.nats_of(label) for probe in probes) / len(probes) for probe in probes for label in probe.base.tokens}
    apart = [rms([probe.base.nats_of(label) - typical[label] for label in probe.base.tokens[:TOLD]]) for probe in probes]
    farthest = sorted(range(len(probes)), key=lambda place: -apart[place])[:CHOSEN]
    some, effect = [probes[place] for place in farthest], rms([apart[place] for place in farthest])
    reason = "" if effect > MOST_SCORE_NOISE else f"the scores of no probe are more than {effect:.3f} nats from those of the others"
    return EffectProof(kind="scores", labels=tuple(labels), probes=tuple(some), effect=round(effect, 4), unprovable=reason)


def _lead(chances: TokenChances) -> float:
    return chances.nats[0] - chances.nats[1] if len(chances.nats) > 1 else 0.0


def _chosen(probes: Sequence[ReferenceProbe], parts: Mapping[str, Readings]) -> list[int]:
    left, taken = list(range(len(probes))), list[int]()
    while left and len(taken) < CHOSEN:
        best = max(left, key=lambda place: _least(probes, parts, [*taken, place]))
        taken.append(best)
        left.remove(best)
    return taken


def _least(probes: Sequence[ReferenceProbe], parts: Mapping[str, Readings], places: Sequence[int]) -> float:
    """What shows least on the probes at ``places``."""
    some = [probes[place] for place in places]
    return min((_part(some, [readings[place] for place in places]) for readings in parts.values()), default=rms(_shifts(some)))


def _part(probes: Sequence[ReferenceProbe], lacking: Readings) -> float:
    return rms(shifts(probes, [probe.candidate for probe in probes], lacking))


def _shifts(probes: Sequence[ReferenceProbe]) -> list[float]:
    return shifts(probes, [probe.base for probe in probes], [probe.candidate for probe in probes])


def _wavering(some: Sequence[ReferenceProbe], places: Sequence[int], base: Readings, candidate: Readings) -> float:
    found = shifts(some, [base[place] for place in places], [candidate[place] for place in places])
    return distance(found, _shifts(some))
