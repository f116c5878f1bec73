"""Documents that a caller sends are ranked in the way in which a servable ranks its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from support.doubles.engine import MemoryEncoder
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, PromptSpec, Retrieval
from tailorbird.inference import open_engine
from tailorbird.inference.retrieval import Lookups
from tailorbird.processes.engine_process import engine_app
from tailorbird.text.search_index import write_index

NAME = "sha256:" + "1" * 64
DOCUMENTS = ["the moon is far", "a refund takes three days", "refunds are money", "three days of rain"]
QUESTION = "how many days does a refund take"


def lookups(folder: Path, **spec: object) -> Lookups:
    write_index(folder, [Entry(id="own", text="a refund of its own", access=("everyone",))], None)
    retrieval = Retrieval.model_validate({"what": "documents", "ways": ("words",), "count": 3, "index": NAME} | spec)
    made = Lookups(MemoryEncoder())
    local = LocalRetrieval(
        spec=retrieval,
        index=str(folder),
        encoder=str(folder) if retrieval.encoder else None,
        reranker=str(folder) if retrieval.reranker else None,
    )
    named = {"id": NAME, "tenant": "acme", "task": TaskKind.RANK, "base": "", "adapter": None, "weights": None}
    servable = Servable(**named, prompt=PromptSpec(instruction=""), retrieval=local)
    made.load(servable, pinned=False)
    return made


@pytest.mark.parametrize(
    ("spec", "counted"),
    [
        ({}, False),
        ({"ways": ("vectors",), "encoder": NAME}, True),
        ({"ways": ("words", "vectors"), "encoder": NAME}, True),
        ({"reranker": NAME, "depth": 2}, True),
    ],
)
def test_every_way_of_ranking_orders_what_is_sent(tmp_path: Path, spec: dict[str, object], counted: bool) -> None:
    found = lookups(tmp_path, **spec).rank(NAME, QUESTION, DOCUMENTS, 10)
    assert sorted(found.places) == [0, 1, 2, 3]
    assert found.places[0] == 1
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert len(found.scores) == 4
    assert (found.prompt_tokens > 0) is counted


def test_the_best_may_be_enough(tmp_path: Path) -> None:
    made = lookups(tmp_path)
    assert made.rank(NAME, QUESTION, DOCUMENTS, 2).places == made.rank(NAME, QUESTION, DOCUMENTS, 4).places[:2]


def test_who_looks_nothing_up_ranks_nothing() -> None:
    with pytest.raises(InvalidInput) as refused:
        Lookups(MemoryEncoder()).rank(NAME, QUESTION, DOCUMENTS, 2)
    assert refused.value.error_code == "retrieval_missing"


def test_an_engine_holds_what_a_hosted_model_is_shown_and_no_weights(tmp_path: Path) -> None:
    write_index(tmp_path, [Entry(id="own", text="a refund takes three days", access=("everyone",))], None)
    spec = Retrieval(what="passages", ways=("words",), count=1, index=NAME)
    hosted = HostedModel(endpoint="outside", url="https://llm.example", model="large", reported="large")
    servable = Servable(
        id=NAME,
        tenant="acme",
        task=TaskKind.GENERATE,
        base="",
        adapter=None,
        weights=None,
        prompt=PromptSpec(instruction=""),
        retrieval=LocalRetrieval(spec=spec, index=str(tmp_path)),
        hosted=hosted,
    )
    engine = open_engine()
    try:
        engine.load(servable)
        assert engine.loaded() == (NAME,)
        [[found]] = engine.retrieve(NAME, [QUESTION], frozenset({"everyone"}), 1)
        assert found.entry.id == "own"
        assert [each.release for each in engine.state().releases] == [NAME]
        app = engine_app(engine, lambda _wanted: servable.model_copy(update={"retrieval": None}), "secret")
        with TestClient(app, headers={"authorization": "Bearer secret"}) as client:
            refused = client.post("/load", json={"tenant": "acme", "release": NAME, "purpose": "production"})
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
        engine.unload(NAME)
        assert engine.loaded() == ()
    finally:
        engine.close()
