"""Texts as vectors over real sockets: by the stock client, as a ranking release reads them, counted and recorded like every answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from support.doubles import MemoryEncoder
from support.processes import Live, live
from support.serving import House, digest
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import LocalRetrieval
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Entry, Retrieval
from tailorbird.text.search_index import write_index

TEXTS = ["I lost my card", "where is my parcel"]


@pytest.fixture
def served(house: House, tmp_path: Path) -> Iterator[Live]:
    """A ranking release that searches by vectors under ``search``, one that searches by words under ``words``, a classifier."""
    (tmp_path / "index").mkdir()
    entry = Entry(id="a", text="lost cards are blocked", access=(EVERYONE,))
    write_index(tmp_path / "index", [entry], MemoryEncoder().embed(Path(), [entry.text]))
    for number, (name, way) in enumerate((("search", "vectors"), ("words", "words")), start=1):
        release = house.release(number, task=TaskKind.RANK)
        spec = Retrieval(what="documents", ways=(way,), count=10, index=digest("index"))
        house.lookups[release] = LocalRetrieval(spec=spec, index=str(tmp_path / "index"), encoder="encoder" if way == "vectors" else None)
        house.point(name, release)
    house.point("routing", house.release(3))
    with live(house) as running:
        yield running


def test_the_stock_client_reads_vectors_in_either_form(served: Live, house: House) -> None:
    expected = MemoryEncoder().embed(Path(), TEXTS)
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.secret, max_retries=0) as client:
        packed = client.embeddings.create(model="acme/search", input=TEXTS)
        plain = client.embeddings.create(model="acme/search", input=TEXTS[0], encoding_format="float")
    assert np.array([one.embedding for one in packed.data]) == pytest.approx(expected, abs=1e-6)
    assert [one.index for one in packed.data] == [0, 1]
    assert plain.data[0].embedding == pytest.approx(expected[0].tolist(), abs=1e-6)
    assert (packed.usage.prompt_tokens, packed.usage.total_tokens, packed.model) == (8, 8, "acme/search")
    newest, before = house.rows()[:2]
    assert {newest.prompt_tokens, before.prompt_tokens} == {4, 8}
    assert (newest.route, newest.outcome, newest.completion_tokens) == ("/v1/embeddings", "ok", 0)


@pytest.mark.parametrize("model", ["acme/routing", "acme/words"])
def test_a_release_without_an_encoder_makes_no_vectors(served: Live, model: str) -> None:
    refused = _ask(served, {"model": model, "input": "hello"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "embeddings_missing")


def _ask(served: Live, body: dict[str, object]) -> httpx.Response:
    return httpx.post(f"{served.url}/v1/embeddings", json=body, headers={"authorization": f"Bearer {served.secret}"})
