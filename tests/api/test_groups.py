"""What an asker may not read is in no passage that the model is shown, and in no list of documents, whatever the question says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from support.api import gateway
from support.serving import DirectDriver, House, digest
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Retrieval
from tailorbird.ports.engine import Chunk, GenerateRequest, LabelScores, LoadRequest, ScoreRequest
from tailorbird.text.search_index import write_index
from tailorbird.usecases import Actor, Dependencies, identities
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.registry import perform

ENTRIES = [
    Entry(id="open", text="The pension plan is described in the handbook.", target="", access=("everyone",)),
    Entry(id="board", text="The pension plan will be closed, says the board.", target="", access=("board", "auditors")),
    Entry(id="nobody", text="The pension plan of nobody at all.", target="", access=()),
]
QUESTION = "What does the board say of the pension plan?"


class Documents(House):
    """Releases that look passages up."""

    spec = Retrieval(what="passages", ways=("words",), count=3, index=digest("index"))

    def grounded(self, task: TaskKind) -> None:
        self.point("routing", self.release(task=task, retrieval=self.spec))

    def admit(self, request: LoadRequest) -> Servable:
        return super().admit(request).model_copy(update={"retrieval": LocalRetrieval(spec=self.spec, index=str(self.folder / "index"))})


class Watching(DirectDriver):
    """Remembers all that the engine was shown."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.shown: list[str] = []

    async def score(self, request: ScoreRequest) -> LabelScores:
        self.shown += [message.content for message in request.prompt]
        return await super().score(request)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.shown += [message.content for message in request.prompt]
        async for chunk in super().stream(request):
            yield chunk


@pytest.fixture
def house(tmp_path: Path) -> Documents:
    (tmp_path / "index").mkdir()
    write_index(tmp_path / "index", ENTRIES, None)
    return Documents(tmp_path)


def told(house: Documents, groups: Sequence[str], path: str, body: dict[str, Any]) -> tuple[str, str]:
    """What the model was shown, and what came back, when somebody of ``groups`` asks."""
    _, secret = house.key(groups=frozenset(groups))
    driver = Watching(house)

    async def story() -> str:
        async with gateway(house, driver) as client:
            answer = await client.post(path, json={"model": "acme/routing"} | body, headers={"authorization": f"Bearer {secret}"})
            assert answer.status_code == 200, answer.text
            return answer.text

    answered = asyncio.run(story())
    return "\n".join(driver.shown), answered


@pytest.mark.parametrize("task", [TaskKind.GENERATE, TaskKind.CLASSIFY])
@pytest.mark.parametrize(("groups", "reads"), [((), False), (("sales",), False), (("sales", "board"), True), (("auditors",), True)])
def test_a_document_that_the_asker_may_not_read_is_never_in_a_passage(
    house: Documents, task: TaskKind, groups: Sequence[str], reads: bool
) -> None:
    house.grounded(task)
    shown, answered = told(house, groups, "/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}]})
    assert "described in the handbook" in shown
    assert ("will be closed" in shown) is reads
    assert "nobody at all" not in shown + answered
    assert ("WILL BE CLOSED" in answered.upper()) is False  # the twin repeats the question alone


def test_a_document_that_the_asker_may_not_read_is_in_no_ranking(house: Documents) -> None:
    house.grounded(TaskKind.RANK)
    body = {"query": QUESTION}
    for groups, found in (((), {"open"}), (("board",), {"open", "board"})):
        _, answered = told(house, groups, "/v1/rerank", body)
        assert {name for name in ("open", "board", "nobody") if f'"id":"{name}"' in answered.replace(" ", "")} == found


def test_groups_are_given_to_a_key_and_kept_when_it_is_replaced(deps: Dependencies) -> None:
    admin: Actor = act_as(deps, "acme", "admin")
    made = perform(deps, admin, identities.create_api_key, identities.NewKey(name="portal", groups=("board",)))
    assert made.key.groups == {"board"}
    again = perform(deps, admin, identities.rotate_api_key, id=made.key.id)
    assert again.key.groups == {"board"}
    assert {key.groups for key in perform(deps, admin, identities.list_api_keys).keys} == {frozenset({"board"})}


def test_more_groups_than_a_key_may_have_are_refused_however_alike_they_are() -> None:
    with pytest.raises(ValidationError):
        identities.NewKey(name="intranet", groups=("staff",) * 101)
    assert identities.NewKey(name="intranet", groups=("staff",) * 100).groups[0] == "staff"
