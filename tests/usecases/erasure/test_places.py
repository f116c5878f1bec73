"""No place that may hold a person's data is forgotten: every folder of a workspace and every table stands in the registry."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

import tailorbird
from support.usecases import on_both_databases, write_objective
from tailorbird.domain.erasure import Treatment
from tailorbird.ledger.tables import metadata
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.erasure.places import PLACES, treated
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.monitoring.watch import watch_production
from tailorbird.usecases.runs import submit

SOURCES = sorted(Path(tailorbird.__file__).parent.rglob("*.py"))
#: ``workspace / "name"``, as code names what lies in a workspace. The workspace of a step is a folder within ``runs``.
NAMED = re.compile(r'(?:deps|settings|self|session\.settings)\.workspace\)? / f?"(?P<name>[^"{]+)')
#: Packages whose ``workspace`` is the folder of one step.
OF_STEPS = ("training", "rungs", "testing", "data", "base_models")


def place_of(name: str) -> str | None:
    return next((place.name for place in PLACES for pattern in place.folders if fnmatch(name, pattern)), None)


def test_every_table_is_in_one_place() -> None:
    named = [table for place in PLACES for table in place.tables]
    assert sorted(named) == sorted(metadata.tables), "say in usecases/erasure/places.py what an erasure does about a new table"


def named_in_code() -> set[str]:
    package = Path(tailorbird.__file__).parent
    ours = (path for path in SOURCES if path.relative_to(package).parts[0] not in OF_STEPS)
    return {found["name"] for path in ours for found in NAMED.finditer(path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("name", sorted(named_in_code()))
def test_every_folder_that_code_names_is_in_a_place(name: str) -> None:
    assert place_of(name.partition("/")[0]), "say in usecases/erasure/places.py what an erasure does about a new folder"


def test_the_search_of_the_code_finds_what_is_known() -> None:
    assert {"runs", "indexes", "uploads", "cache", "keys", "models", "artifacts", "shipping"} <= named_in_code()


@on_both_databases
def test_every_folder_that_is_made_is_in_a_place(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    submit.adapt(deps, author, write_objective(tmp_path / "job"), Progress())
    watch_production(deps, act_as(deps, "acme", "worker"))
    found = {path.name for path in deps.workspace.iterdir()}
    assert {"artifacts", "cache", "keys"} <= found
    assert [name for name in sorted(found) if place_of(name) is None] == []


def test_a_certificate_says_of_each_place_what_was_done() -> None:
    assert {place.treatment for place in treated()} == set(Treatment)
    assert len({place.name for place in PLACES}) == len(PLACES)
    assert all(place.how for place in PLACES)
