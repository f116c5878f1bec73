"""Choice of probes: where a part shows least it must show, and what noise hides is said."""

from __future__ import annotations

from tailorbird.domain.evidence import ReferenceProbe, TokenChances
from tailorbird.release import PROBE_TEXTS, choose
from tailorbird.release.reference_probes import CHOSEN, SHORTLISTED


def chances(first: float) -> TokenChances:
    return TokenChances(tokens=("61", "62", "63"), nats=(first, first - 1, first - 2))


def probes(*effects: float) -> list[ReferenceProbe]:
    return [ReferenceProbe(text=f"{place}", base=chances(-3), candidate=chances(-3 + effect)) for place, effect in enumerate(effects)]


def lacking(asked: list[ReferenceProbe], *by: float) -> list[TokenChances]:
    return [chances(probe.candidate.nats[0] - less) for probe, less in zip(asked, by, strict=True)]


def test_the_probes_are_short_and_different() -> None:
    assert len(set(PROBE_TEXTS)) == len(PROBE_TEXTS) > SHORTLISTED > CHOSEN
    assert max(len(text.split()) for text in PROBE_TEXTS) <= 8


def test_probes_that_show_every_part_are_taken() -> None:
    asked = probes(2, 2, 2, 2, 2, 2)
    parts = {"q_proj": lacking(asked, 0.5, 0, 0, 0, 0, 0.9), "v_proj": lacking(asked, 0, 0, 0.7, 0, 0, 0.8)}
    found = choose(asked, parts, [])
    assert {"0", "2", "5"} <= {probe.text for probe in found.probes}
    assert len(found.probes) == CHOSEN
    assert (found.hidden, found.unprovable) == ((), "")


def test_a_part_that_noise_hides_is_named() -> None:
    asked = probes(2, 2)
    again = [([chances(-3)] * 2, [chances(-1.1)] * 2)]
    found = choose(asked, {"q_proj": lacking(asked, 0.3, 0.3), "v_proj": lacking(asked, 0.9, 0.9)}, again)
    assert found.noise > 0.09
    assert (found.hidden, found.unprovable) == (("q_proj",), "")


def test_an_effect_that_noise_hides_is_unprovable() -> None:
    found = choose(probes(0.01, 0.02), {}, [])
    assert found.unprovable
