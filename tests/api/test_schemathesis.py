"""The surface answers as its description says, whatever is sent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.api_fuzz import Surface, fuzz
from support.control import open_office
from support.serving import House

#: Requests of each kind for each route, beside those at the edges of its description.
EXAMPLES = 10


@pytest.fixture(scope="module")
def surface(tmp_path_factory: pytest.TempPathFactory, furnished_office: Path) -> Iterator[Surface]:
    deps = open_office(shutil.copytree(furnished_office, tmp_path_factory.mktemp("surface") / "office"))
    house = House(deps.workspace, new=False)
    made = Surface(deps, house)
    yield made
    made.close()
    house.ledger.close()
    deps.ledger.close()


@pytest.mark.slow
def test_no_answer_is_a_surprise(surface: Surface) -> None:
    """No 5xx, no status or body that the description lacks, nothing taken that it forbids, nothing told without a credential."""
    findings = fuzz(surface, EXAMPLES)
    assert findings.failures == {}
    assert findings.requests > 2000
    assert {200, 204, 400, 401, 404, 405, 409} <= set(findings.statuses)


@pytest.mark.slow
def test_a_surprise_would_be_found(surface: Surface, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("tailorbird.api.control.perform_request", break_down)
    monkeypatch.setattr(surface, "schema", surface.schema.include(path="/api/identities"))
    found = fuzz(surface, 1).failures
    assert "GET /api/identities: Server error (500)" in found
    assert "POST /api/identities: Server error (500)" in found
