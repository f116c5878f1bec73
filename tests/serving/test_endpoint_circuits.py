"""An endpoint that says nothing is asked by one request in a while; refusals, long answers and other tenants change nothing of that."""

from __future__ import annotations

from contextlib import suppress

import pytest

from support.hosted import MODEL, endpoint
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import AnswerLost, Exhausted, InvalidInput, TailorbirdError, Unavailable
from tailorbird.serving import EndpointCircuits

SILENT = Unavailable("the endpoint outside cannot be reached", "", code="endpoint_unavailable", silent=True)
LOST = AnswerLost("the endpoint outside has not answered within 30 s", "", code="endpoint_unavailable", silent=True)
ANSWERS = [
    Exhausted("busy", "", code="endpoint_busy"),
    Unavailable("it does not take its key", "", code="endpoint_refused"),
    Unavailable("status 503", "", code="endpoint_unavailable"),
    AnswerLost("broke off", "", code="endpoint_unavailable"),
    InvalidInput("too long", "", code="prompt_too_long"),
    None,
]


class Asked:
    """Requests to one server, by a clock that the test sets."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.circuits = EndpointCircuits(lambda: self.at)

    def ask(self, outcome: TailorbirdError | None, tenant: str = "acme", made: Endpoint | None = None, model: str = MODEL) -> float | None:
        """None where the request was sent; else the seconds after which it may be again."""
        letting = self.circuits.attempt(tenant, made or endpoint(), model)
        try:
            attempt = letting.__enter__()
        except Unavailable as refused:
            return refused.retry_after
        if outcome is None:
            attempt.heard()
        with suppress(TailorbirdError):
            letting.__exit__(*((type(outcome), outcome, None) if outcome else (None, None, None)))
        return None

    def fall_silent(self, tenant: str = "acme", times: int = 3) -> None:
        for _ in range(times):
            assert self.ask(LOST, tenant) is None


@pytest.fixture
def asked() -> Asked:
    return Asked()


def test_after_three_requests_in_a_row_it_is_not_asked(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    asked.fall_silent(times=2)
    assert (asked.ask(None), asked.circuits.open) == (None, 0)
    asked.fall_silent(times=3)
    assert asked.circuits.open == 1
    assert [asked.ask(None) for _ in range(3)] == [5.0] * 3
    asked.at += 3
    assert asked.ask(None) == 2.0
    assert asked.circuits.not_sent == 4
    asked.at += 2
    assert asked.ask(None) is None
    assert (asked.ask(None), asked.circuits.open) == (None, 0)
    assert [one.message for one in caplog.records] == [
        f"the model {MODEL} at the endpoint outside of acme said nothing to 3 requests in a row (the endpoint outside has not answered "
        "within 30 s): it is asked by one in a while",
        f"the model {MODEL} at the endpoint outside of acme answers again, after 5 s: every request asks it",
    ]


def test_each_request_that_is_let_through_in_vain_makes_the_pause_longer(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    asked.fall_silent()
    for pause in (5, 10, 20, 40, 60, 60):
        asked.at += pause - 1
        assert asked.ask(SILENT) == 1.0
        asked.at += 1
        assert asked.ask(SILENT) is None
    assert len(caplog.records) == 1


@pytest.mark.parametrize("outcome", ANSWERS)
def test_a_server_that_says_anything_is_there(asked: Asked, outcome: TailorbirdError | None) -> None:
    for _ in range(10):
        asked.fall_silent(times=2)
        assert asked.ask(outcome) is None
    asked.fall_silent(times=2)
    assert asked.circuits.open == 0
    asked.fall_silent(times=1)
    asked.at += 5
    assert asked.ask(outcome) is None
    assert asked.circuits.open == 0


@pytest.mark.parametrize("code", ["address_private", "endpoint_key_missing"])
def test_what_was_never_sent_says_nothing(asked: Asked, code: str) -> None:
    asked.fall_silent(times=2)
    assert asked.ask(Unavailable("not sent", "", code=code)) is None
    asked.fall_silent(times=1)
    assert asked.circuits.open == 1
    asked.at += 5
    for _ in range(2):
        assert asked.ask(Unavailable("not sent", "", code=code)) is None
    assert asked.circuits.open == 1


def test_requests_far_apart_are_not_in_a_row(asked: Asked) -> None:
    for _ in range(5):
        asked.fall_silent(times=1)
        asked.at += 91
    assert asked.circuits.open == 0
    for _ in range(3):
        asked.fall_silent(times=1)
        asked.at += 90
    assert asked.circuits.open == 1


def test_one_at_a_time_is_let_through_and_one_that_is_left_makes_room(asked: Asked) -> None:
    asked.fall_silent()
    asked.at += 5
    with suppress(GeneratorExit), asked.circuits.attempt("acme", endpoint(), MODEL):
        assert [asked.ask(None) for _ in range(2)] == [1.0, 1.0]
        raise GeneratorExit
    assert asked.circuits.open == 1
    assert asked.ask(None) is None


def test_an_answer_that_was_long_under_way_shows_that_it_is_there(asked: Asked) -> None:
    with asked.circuits.attempt("acme", endpoint(), MODEL) as slow:
        asked.fall_silent()
        assert asked.circuits.open == 1
        slow.heard()
        assert asked.circuits.open == 0
        asked.fall_silent()
        slow.heard()
    assert asked.circuits.open == 1, "its first words are news, not each"


def test_a_server_that_answered_others_meanwhile_is_there(asked: Asked) -> None:
    """A burst makes it slow, and the timeouts of those that it left out end together, after the answers."""
    burst = [asked.circuits.attempt("acme", endpoint(), MODEL) for _ in range(8)]
    for one in burst:
        one.__enter__()
    asked.at += 0.01
    assert asked.ask(None) is None
    asked.at += 30
    for one in burst:
        with suppress(AnswerLost):
            one.__exit__(AnswerLost, LOST, None)
    assert asked.circuits.open == 0
    asked.at += 1
    asked.fall_silent()
    assert asked.circuits.open == 1


def test_a_request_from_before_does_not_make_the_pause_longer(asked: Asked) -> None:
    with suppress(AnswerLost), asked.circuits.attempt("acme", endpoint(), MODEL):
        asked.fall_silent()
        raise LOST
    asked.at += 5
    assert asked.ask(None) is None


def test_what_one_tenant_asks_keeps_no_other_from_asking(asked: Asked) -> None:
    asked.fall_silent("acme")
    for made in (endpoint(), endpoint(name="theirs")):
        assert asked.ask(None, "globex", made) is None
    assert asked.ask(None, "acme") == 5.0


def test_another_model_and_an_endpoint_that_is_registered_anew_are_known_nothing_of(asked: Asked) -> None:
    asked.fall_silent()
    assert asked.ask(None, model="other") is None
    assert asked.ask(None, made=endpoint(timeout_s=60.0)) is None
    assert asked.ask(None, made=endpoint(url="https://other.example")) is None


def test_where_it_is_silent_to_others_one_request_is_enough(asked: Asked) -> None:
    asked.fall_silent("acme")
    asked.fall_silent("globex", times=1)
    assert asked.circuits.open == 2
    asked.at += 5
    assert asked.ask(None, "acme") is None
    assert asked.ask(None, "globex") is None
    assert asked.circuits.open == 0


def test_whoever_is_answered_has_the_others_look_at_once(asked: Asked) -> None:
    asked.fall_silent("acme")
    asked.at += 5
    asked.fall_silent("acme", times=1)
    asked.fall_silent("globex", times=1)
    asked.at += 5
    assert asked.ask(None, "globex") is None
    assert asked.ask(None, "acme") is None


def test_it_is_forgotten_where_nobody_asks(asked: Asked) -> None:
    asked.fall_silent()
    asked.at += 1801
    assert asked.circuits.open == 0
    asked.fall_silent(times=2)
    assert asked.circuits.open == 0
