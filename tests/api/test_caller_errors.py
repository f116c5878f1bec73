"""What only an operator can mend is told to callers as that; what to do about it stands in the log."""

from __future__ import annotations

import copy

import pytest

from support.api import ASK, events, post
from support.serving import DirectDriver, House
from tailorbird.api.errors import for_caller
from tailorbird.domain.errors import InvalidInput, TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.serving.hosted_models import NOT_ASKED, STOOD_IN_FOR

OPERATORS = "set the key in the setting endpoint_keys, then: tailorbird endpoint list"


class BreakingDriver(DirectDriver):
    """Breaks before a stream, or in its middle."""

    def __init__(self, house: House, *, begun: bool) -> None:
        super().__init__(house)
        self.begun = begun

    async def stream(self, *question: object):  # type: ignore[no-untyped-def, override]
        if self.begun:
            async for chunk in super().stream(*question):  # type: ignore[arg-type]
                yield chunk
                break
        raise Unavailable("the engine answered with status 500", OPERATORS, code="engine_unavailable")


@pytest.mark.parametrize("code", sorted(STOOD_IN_FOR))
@pytest.mark.parametrize("kind", [Unavailable, InvalidInput])
def test_hints_for_operators_are_for_the_log(code: str, kind: type[TailorbirdError], caplog: pytest.LogCaptureFixture) -> None:
    error = kind("what happened", OPERATORS, code=code)
    before = copy.copy(vars(error))
    told = for_caller(error)
    assert (type(told), told.message, told.error_code, str(told)) == (kind, "what happened", code, "what happened")
    assert not any(word in told.hint for word in ("endpoint_keys", "tailorbird"))
    assert (OPERATORS in caplog.text) == (code != NOT_ASKED), "the log tells once of an endpoint that is not asked"
    assert vars(error) == before, "others may be told of the same"


def test_the_rest_of_an_error_stays_as_it_is() -> None:
    told = for_caller(Unavailable("away", OPERATORS, code="endpoint_not_asked", retry_after=7.0))
    assert isinstance(told, Unavailable)
    assert told.retry_after == 7.0
    told = for_caller(InvalidInput("no", OPERATORS, code="endpoint_request", param="messages"))
    assert isinstance(told, InvalidInput)
    assert (told.param, told.hint) == ("messages", "ask in other words, or another model")
    other = InvalidInput("the prompt is longer than the context", "shorten the text", code="prompt_too_long")
    assert for_caller(other) is other


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_callers_of_every_way_to_ask_are_told_so(house: House, stream: bool, begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    house.point("routing", house.release(task=TaskKind.GENERATE))
    answer = post(house, ASK | {"stream": stream}, BreakingDriver(house, begun=begun))
    body = events(answer)[-1] if stream and begun else answer.json()
    assert body["error"]["code"] == "engine_unavailable"
    assert body["error"]["hint"].startswith("try again later")
    assert caplog.text.count(OPERATORS) == 1
