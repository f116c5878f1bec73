"""``/v1/rerank`` over documents that the caller sends, in the shape of Cohere and Jina."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from support.api import ask
from support.serving import House, digest
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Retrieval
from tailorbird.ports.engine import LoadRequest
from tailorbird.text.search_index import write_index

DOCUMENTS = ["The moon is far away.", "A refund takes three days.", "Refunds of three days and more are rare; a refund is money."]
QUESTION = "How many days does a refund take?"


class Library(House):
    """A release that ranks: by words, or by words and vectors."""

    spec = Retrieval(what="documents", ways=("words", "vectors"), count=3, index=digest("index"), encoder=digest("encoder"))

    def admit(self, request: LoadRequest) -> Servable:
        local = LocalRetrieval(spec=self.spec, index=str(self.folder / "index"), encoder=str(self.folder))
        return super().admit(request).model_copy(update={"retrieval": local})

    def ranking(self, task: TaskKind = TaskKind.RANK) -> None:
        self.point("routing", self.release(task=task, retrieval=self.spec))


@pytest.fixture
def house(tmp_path: Path) -> Library:
    (tmp_path / "index").mkdir()
    write_index(tmp_path / "index", [Entry(id="own", text="A refund of its own.", access=("everyone",))], None)
    return Library(tmp_path)


def asked(house: House, **changes: Any) -> httpx.Response:
    body = {"model": "acme/routing", "query": QUESTION, "documents": DOCUMENTS} | changes
    return ask(house, lambda client: client.post("/v1/rerank", json=body))


def test_the_callers_documents_come_back_in_order_with_their_places(house: Library) -> None:
    house.ranking()
    answer = asked(house)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert sorted(one["index"] for one in results) == [0, 1, 2]
    assert results[-1]["index"] == 0
    assert all(one["document"] == {"text": DOCUMENTS[one["index"]]} for one in results)
    scores = [one["relevance_score"] for one in results]
    assert scores == sorted(scores, reverse=True)
    assert answer.json()["usage"]["prompt_tokens"] > 10


def test_documents_may_be_objects_the_best_may_be_enough_and_texts_may_be_left_out(house: Library) -> None:
    house.ranking()
    whole = asked(house).json()["results"]
    answer = asked(house, documents=[{"text": text} for text in DOCUMENTS], top_n=1, return_documents=False)
    assert answer.json()["results"] == [{name: whole[0][name] for name in ("index", "relevance_score")}]
    assert [one["index"] for one in asked(house, top_n=200).json()["results"]] == [one["index"] for one in whole]


def test_without_documents_those_of_the_release_are_ranked(house: Library) -> None:
    house.ranking()
    body = {"model": "acme/routing", "query": QUESTION}
    (one,) = ask(house, lambda client: client.post("/v1/rerank", json=body)).json()["results"]
    assert one["document"] == {"id": "own", "title": ""}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ["a"] * 257}, "documents"),
        ({"documents": [{"text": "a", "title": "b"}]}, "documents"),
        ({"documents": None, "return_documents": True}, ""),
    ],
)
def test_what_cannot_be_ranked_is_refused(house: Library, changes: dict[str, Any], param: str) -> None:
    house.ranking()
    answer = asked(house, **changes)
    assert answer.status_code == 400
    assert str(answer.json()["error"]["param"]).startswith(param)


def test_a_model_that_classifies_ranks_nothing(house: Library) -> None:
    house.ranking(TaskKind.CLASSIFY)
    answer = asked(house)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "retrieval_missing")
