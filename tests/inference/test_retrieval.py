"""Documents that a caller sends are ranked in the way in which a servable ranks its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.doubles.engine import MemoryEncoder
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, PromptSpec, Retrieval
from tailorbird.inference.retrieval import Lookups
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
        ({"ways": ("vectors",), "encoder": NAME}, True),
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
