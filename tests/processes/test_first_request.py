"""The line for a shell that ``serve`` shows: the name in production, on the route of its kind, and it is answered as it stands."""

from __future__ import annotations

import itertools
import json
import shlex
from dataclasses import replace

import httpx
import pytest

from support.processes import live
from support.serving import House, digest
from tailorbird.domain.objective import TaskKind
from tailorbird.processes.gateway import first_request


@pytest.mark.parametrize("kind", [TaskKind.CLASSIFY, TaskKind.GENERATE])
def test_the_line_is_answered_as_it_stands(house: House, kind: TaskKind) -> None:
    house.point("routing", house.release(task=kind))
    with live(house) as served:
        words = shlex.split(first_request(replace(house.deps, host="acme"), served.url).partition(": ")[2])
        assert words[:2] == ["curl", "-sS"]
        headers = dict(word.split(": ", 1) for flag, word in itertools.pairwise(words) if flag == "-H")
        assert headers["authorization"] == "Bearer $KEY"
        sent = httpx.post(words[2], headers=headers | {"authorization": f"Bearer {served.secret}"}, content=words[words.index("-d") + 1])
        assert sent.status_code == 200
        assert sent.json()["choices"][0]["message"]["content"]


def test_a_ranking_release_is_asked_on_its_route(house: House) -> None:
    house.point("search", house.release(task=TaskKind.RANK))
    line = first_request(replace(house.deps, host="acme"), "http://127.0.0.1:8080")
    assert "http://127.0.0.1:8080/v1/rerank" in line
    assert json.loads(shlex.split(line)[-1]) == {"model": "acme/search", "query": "TEXT"}


def test_where_nothing_is_in_production_what_comes_first_is_told(house: House) -> None:
    house.point("routing", house.release())
    house.point("routing")
    assert "tailorbird promote DIGEST" in first_request(replace(house.deps, host="acme"), "http://127.0.0.1:8080")


def test_a_release_that_the_record_lacks_stops_no_gateway(house: House) -> None:
    house.point("routing", digest("nowhere"))
    assert "cannot be told now" in first_request(replace(house.deps, host="acme"), "http://127.0.0.1:8080")
