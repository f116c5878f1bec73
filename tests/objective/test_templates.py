"""Templates: each is a whole objective with data that can prove its target, and none overwrites a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.data import Store
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import SnapshotRequest, build_snapshot
from tailorbird.domain.errors import Conflict, ObjectiveInvalid
from tailorbird.objective import (
    TEMPLATES,
    check_labels,
    check_origins,
    objective_schema,
    read_objective,
    split_power,
    template_files,
    write_template,
)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_begins_with_its_schema_and_says_that_it_is_synthetic(name: str) -> None:
    texts = template_files(name)
    assert texts["objective.yaml"].splitlines()[0] == "# yaml-language-server: $schema=objective.schema.json"
    assert json.loads(texts["objective.schema.json"]) == objective_schema()
    assert "tenant: acme " in template_files(name, "acme")["objective.yaml"]


@pytest.mark.parametrize("name", ["classify", "classify-many", "generate", "chat"])
def test_a_template_can_prove_its_target(name: str, tmp_path: Path) -> None:
    written = write_template(name, tmp_path / "new", "acme")
    assert written[-1].name == "objective.yaml"
    file = read_objective(written[-1])
    assert (file.objective.tenant, file.objective.task.kind) == ("acme", {"classify-many": "classify", "chat": "generate"}.get(name, name))
    built = build_snapshot(SnapshotRequest(file.objective, Path(file.folder), Store(), {}, lambda _: None))
    assert (built.quarantined, built.manifest.duplicates) == ((), 0)
    check_labels(file, built.manifest)
    assert all(power.provable for power in split_power(file, built.manifest)[1])


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "messages.csv").write_text("mine")
    with pytest.raises(Conflict) as caught:
        write_template("classify", tmp_path)
    assert caught.value.error_code == "conflict"
    assert [path.name for path in tmp_path.iterdir()] == ["messages.csv"]
    assert (tmp_path / "messages.csv").read_text() == "mine"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_templates_origin_is_not_that_of_other_data(name: str, tmp_path: Path) -> None:
    file = read_objective(write_template(name, tmp_path)[-1])
    digests = {path: digest_bytes((tmp_path / path).read_bytes()) for path in file.objective.places}
    check_origins(file, digests)
    with pytest.raises(ObjectiveInvalid) as refused:
        check_origins(file, digests | {file.objective.data[0].path: digest_bytes(b"mine")})
    assert refused.value.line == file.line_of("data.0.source.origin")
