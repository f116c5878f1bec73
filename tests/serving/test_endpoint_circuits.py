"""An endpoint that says nothing is not asked for a while; refusals and other tenants change nothing of that."""

from __future__ import annotations

from contextlib import suppress

import pytest

from support.hosted import MODEL, endpoint
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import AnswerLost, Exhausted, InvalidInput, TailorbirdError, Unavailable
from tailorbird.serving.hosted_models import EndpointCircuits

SILENT = Unavailable("the endpoint outside cannot be reached", "", code="endpoint_unavailable", silent=True)
LOST = AnswerLost("the endpoint outside has not answered within 30 s", "", code="endpoint_unavailable", silent=True)
ANSWERS = [
    Exhausted("busy", "", code="endpoint_busy"),
    Unavailable("it does not take its key", "", code="endpoint_refused"),
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
    assert [asked.ask(None) for _ in range(3)] == [30.0] * 3
    asked.at += 28
    assert asked.ask(None) == 2.0
    assert asked.circuits.not_sent == 4
    asked.at += 2
    assert asked.ask(None) is None
    assert (asked.ask(None), asked.circuits.open) == (None, 0)
    assert len(caplog.records) == 1


def test_after_the_pause_one_request_tries_it_and_the_others_wait(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    asked.fall_silent()
    for _ in range(3):
        asked.at += 30
        with suppress(Unavailable), asked.circuits.attempt("acme", endpoint(), MODEL):
            assert asked.ask(None) == 30.0
            raise SILENT
    assert asked.ask(None) == 30.0
    assert len(caplog.records) == 1


@pytest.mark.parametrize("outcome", ANSWERS)
def test_a_server_that_says_anything_is_there(asked: Asked, outcome: TailorbirdError | None) -> None:
    for _ in range(10):
        asked.fall_silent(times=2)
        assert asked.ask(outcome) is None
    asked.fall_silent(times=2)
    assert asked.circuits.open == 0
    asked.fall_silent(times=1)
    asked.at += 30
    assert asked.ask(outcome) is None
    assert asked.circuits.open == 0


def test_what_one_tenant_asks_keeps_no_other_from_asking(asked: Asked) -> None:
    asked.fall_silent("acme")
    for made in (endpoint(), endpoint(name="theirs")):
        assert asked.ask(None, "globex", made) is None
    assert asked.ask(None, "acme") == 30.0
