"""What processes write down: ids that lead from the gateway to the engine, patterns instead of paths, and nothing that was said."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.processes import ASK, CHAT, gateway_process, wait_ready
from support.serving import House
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Corrupt
from tailorbird.processes.logs import set_up_logging, trace_of

PRIVATE = "my card number is 4111"


def test_a_request_is_one_line_in_each_process_under_one_id(house: House, tmp_path: Path) -> None:
    house.point("routing", release := house.release())
    headers = {"authorization": f"Bearer {house.key()[1]}", "x-request-id": "from-the-caller"}
    with gateway_process(tmp_path, log_format="json") as running:
        wait_ready(running.url, running.process)
        question = ASK | {"messages": [{"role": "user", "content": PRIVATE}]}
        answer = httpx.post(running.url + CHAT, json=question, headers=headers)
        httpx.get(f"{running.url}/v1/models/acme/{'secret-name'}", headers=headers | {"x-request-id": "not well formed"})
        httpx.get(f"{running.url}/no/such/place?q=secret-name")
        assert running.stop() == 0
    text = running.errors.read_text()
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    # What a gateway asks an engine of its own accord (to load, whether it is well) is nobody's request, and has no id.
    requests = [line for line in lines if line["message"] == "request" and "id" in line]
    asked = [line for line in requests if line["id"] == answer.headers["x-request-id"]]
    assert {(line["process"], line["route"]) for line in asked} == {("gateway", CHAT), ("engine", "/score")}
    (told,) = (line for line in asked if line["process"] == "gateway")
    assert (told["method"], told["status"], told["tenant"], told["release"]) == ("POST", 200, "acme", short(release))
    assert told["caller_id"] == "from-the-caller"
    assert told["ms"] > 0
    assert [(line["route"], line["status"], line.get("caller_id")) for line in requests if line["id"] != told["id"]] == [
        ("/v1/models/{model:path}", 404, None),
        ("unmatched", 404, None),
    ]
    for private in (PRIVATE, "4111", "secret-name", headers["authorization"].split()[1], "routing"):
        assert private not in text
    of_itself = [line["route"] for line in lines if line["message"] == "request" and "id" not in line]
    assert set(of_itself) <= {"/load", "/unload"}, "what is asked every second is no line"
    said = " ".join(line["message"] for line in lines if line["process"] == "gateway")
    for place in ("console: http://127.0.0.1:", "API: http://127.0.0.1:", "/openapi.json"):
        assert place in said
    assert "serving on http://127.0.0.1" in said
    assert "the model process answers" in said
    assert said.endswith("ended")
    assert [line["message"].split(":")[0] for line in lines if line["level"] != "info"] == ["checkpoints_stay"]


@pytest.fixture
def quiet_again() -> Iterator[None]:
    """Loggers as they were."""
    loggers = [logging.getLogger(name) for name in ("tailorbird", "uvicorn")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_a_defect_is_one_json_line_with_its_trace(quiet_again: None, capsys: pytest.CaptureFixture[str]) -> None:
    log = set_up_logging("gateway", "json")
    try:
        raise ValueError("a defect")
    except ValueError as error:
        log.critical("a watch ended", exc_info=error)
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["message"]) == ("critical", "a watch ended")
    assert told["trace"].endswith("in test_a_defect_is_one_json_line_with_its_trace\nbuiltins.ValueError")


def test_the_words_of_a_library_are_not_told_since_they_may_quote_what_was_sent() -> None:
    try:
        try:
            int("the words of a row")
        except ValueError as error:
            raise Corrupt("a number cannot be read", "restore it") from error
    except Corrupt as error:
        told = trace_of(error)
    assert "the words" not in told
    assert told.index("builtins.ValueError") < told.index("which led to") < told.index("Corrupt: a number cannot be read")
