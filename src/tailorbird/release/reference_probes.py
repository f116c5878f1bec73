"""Reference probes: which synthetic questions a release is recognised by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tailorbird.domain.effect import TOLD, EffectProof, ReferenceProbe, TokenChances
from tailorbird.stats.effect_distance import LEAST_NOISE, MOST_SCORE_NOISE, TIMES_NOISE, distance, rms, shifts

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
