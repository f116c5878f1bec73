"""``review ask`` on a server: a worker asks the model, and the command waits for it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from support.label_review import open_review
from tailorbird.cli import review as verb
from tailorbird.cli.session import CommandSession
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.errors import Conflict
from tailorbird.domain.label_review import JudgeResult, JudgeState
from tailorbird.usecases import Progress
from tailorbird.usecases.label_reviews.label_review import ReviewState, show_review
from tailorbird.usecases.label_reviews.llm_judges import ask_judge
from tailorbird.usecases.registry import AnyUseCase

RELEASE = digest_bytes(b"release")


def state(judge: JudgeState, reason: str = "") -> ReviewState:
    other = JudgeResult(model="jim", bar=0.4, reason="it informs only")
    result = open_review(40, 2, other, JudgeResult(model="jane", state=judge, bar=0.4, reason=reason))
    return ReviewState(release=RELEASE, required=True, result=result)


class Server:
    """Answers one state after the other."""

    def __init__(self, *states: ReviewState) -> None:
        self.states, self.asked = list(states), list[tuple[str, dict[str, Any]]]()

    def ask_as(self, default: str, use_case: AnyUseCase, /, **fields: Any) -> ReviewState:
        assert default == "reviewer"
        self.asked.append((use_case.name, use_case.request_of(**fields).model_dump()))
        return self.states.pop(0)


def asked(server: Server) -> ReviewState:
    return verb._judged_there(cast(CommandSession, server), "0123", "jane", Progress())


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "POLL_SECONDS", 0)


def test_the_command_waits_for_the_worker() -> None:
    server = Server(*(state(JudgeState.WAITING) for _ in range(3)), state(JudgeState.DONE))
    assert asked(server) == state(JudgeState.DONE)
    assert server.asked[0] == (ask_judge.name, {"digest": "0123", "model": "jane"})
    assert server.asked[1:] == [(show_review.name, {"digest": RELEASE})] * 3


def test_one_that_has_judged_is_shown_at_once() -> None:
    server = Server(state(JudgeState.DONE))
    assert asked(server) == state(JudgeState.DONE)
    assert len(server.asked) == 1


def test_what_the_worker_met_is_told() -> None:
    with pytest.raises(Conflict, match="judge_context") as caught:
        asked(Server(state(JudgeState.WAITING), state(JudgeState.FAILED, "it could not judge (judge_context)")))
    assert caught.value.error_code == "judge_failed"
