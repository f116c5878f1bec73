"""A look at a release: drift is told when it is proven and large; rates are judged by what is sure; too little says so."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from support.monitoring import RELEASE, TOPICS, by_name, look, messages, request, requests, severities
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.feedback import Severity, Signal
from tailorbird.monitoring.production_check import Reference, reference_of
from tailorbird.monitoring.service import Expectation
from tailorbird.monitoring.sketch import sketch

ALL = tuple(TOPICS)


DRIFT = {"drift.text", "drift.length", "drift.classes"}


def row(text: str, target: str) -> Row:
    origin = Provenance(file="f", file_digest=RELEASE, line=1, origin="o", license="l", collected="c", consent="c")
    return Row(id=digest_bytes(text.encode()), text=text, target=target, group="g", split=Split.TRAIN, provenance=origin)


def reference(topics: Sequence[str] = ALL, n: int = 400) -> Reference:
    said = messages(topics, n, seed=7)
    return reference_of([row(text, topic) for text, topic in said], [topic for _, topic in said])


def test_live_messages_like_those_trained_on_are_no_drift():
    found = look(requests(messages(ALL, 300, seed=8)), reference())
    assert severities(found) == dict.fromkeys(DRIFT, Severity.INFO)
    for signal in found:
        assert signal.p_value is not None
        assert signal.p_value > 0.01
        assert signal.n == 300
        assert "No drift is proven" in signal.text


def test_messages_about_something_else_are_drift_in_text_and_classes():
    found = by_name(look(requests(messages(("refund",), 200, seed=8)), reference()))
    assert found["drift.text"].severity is not Severity.INFO
    assert found["drift.classes"].severity is Severity.ALARM
    # Three tests were made, so that the smallest possible p-value, 0.001, counts as 0.003.
    assert found["drift.text"].p_value == pytest.approx(0.003, abs=0.0011)
    assert "refund: 100 % of answers" in found["drift.classes"].text
    assert "the bound is 55 %" in found["drift.text"].text
    assert "200 live and " in found["drift.text"].text


def test_a_shift_too_small_to_matter_is_not_told_however_many_messages_prove_it():
    held = Reference(sketches=(), characters=(), classes={"a": 50_000, "b": 50_000})
    live = [request(f"m{place}", "a" if place % 100 < 53 else "b", place) for place in range(20_000)]
    found = by_name(look(live, held))["drift.classes"]
    assert found.p_value is not None
    assert found.p_value <= 0.01
    assert found.severity is Severity.INFO
    assert "Too little to matter" in found.text


def test_too_few_messages_say_so_and_alarm_nobody():
    found = by_name(look(requests(messages(("refund",), 49, seed=8)), reference()))
    for name in DRIFT:
        assert found[name].severity is Severity.INFO
        assert found[name].p_value is None
        assert "too few to tell (49 of 50)" in found[name].text
    assert found["drift.text"].value == 0.5


def test_the_reference_holds_no_text_and_counts_a_text_once():
    held = reference_of([row("Card LOST", "a"), row("card lost!", "a"), row("top up", "b")], ["a", "a", "b"])
    assert set(held.sketches) == {sketch("card lost"), sketch("top up")}
    assert len(held.characters) == 2
    assert held.classes == {"a": 2, "b": 1}
    assert "lost" not in held.model_dump_json().lower()


def stranger(n: int) -> RequestRow:
    """A message that none of the labels fits, and that was refused."""
    text = " ".join(f"weather{(n * factor) % 997}" for factor in (31, 57, 19, 41, 7))
    return request(text, None, 10_000 + n, referred=True, out_of_scope=True)


def scoped(live: Sequence[RequestRow], usual: float | None, held: Reference | None = None) -> dict[str, Signal]:
    return by_name(look(live, held or reference(), expected=Expectation(known_refused=usual)))


def test_messages_out_of_scope_are_a_reading_of_their_own_and_no_drift_of_the_others():
    said = requests(messages(ALL, 300, seed=8))
    found = scoped([*said, *map(stranger, range(150))], 0.02)
    assert all(found[name].severity is Severity.INFO for name in DRIFT)
    beyond = found["drift.out_of_scope"]
    assert (beyond.severity, beyond.n, beyond.bound) == (Severity.ALARM, 450, pytest.approx(0.12))
    assert beyond.value == pytest.approx(1 / 3)
    assert "Messages that none of the labels fits: 150 of 450" in beyond.text
    unrefused = scoped([*said, *(stranger(n).model_copy(update={"out_of_scope": False}) for n in range(150))], 0.02)
    assert unrefused["drift.text"].severity is not Severity.INFO, "what is answered all the same is drift"
