"""Templates: each is a whole objective with data that can prove its target, and none overwrites a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import SnapshotRequest, build_snapshot
from tailorbird.domain.errors import Conflict, InvalidInput, ObjectiveInvalid
from tailorbird.objective import (
    TEMPLATES,
    check_labels,
    check_origins,
    check_power,
    objective_schema,
    parse_objective,
    read_objective,
    template_files,
    write_template,
)


class Store:
    """Bytes by digest, in memory; a snapshot needs no trees."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        self.held[digest_bytes(data)] = data
        return digest_bytes(data)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_begins_with_its_schema_and_says_that_it_is_synthetic(name: str) -> None:
    texts = template_files(name)
    assert texts["objective.yaml"].splitlines()[0] == "# yaml-language-server: $schema=objective.schema.json"
    assert json.loads(texts["objective.schema.json"]) == objective_schema()
    assert 'origin: "synthetic, written for the template of tailorbird"' in texts["objective.yaml"]
    assert "tenant: acme " in template_files(name, "acme")["objective.yaml"]


@pytest.mark.parametrize("name", ["classify", "classify-many", "generate", "chat"])
def test_a_template_can_prove_its_target(name: str, tmp_path: Path) -> None:
    written = write_template(name, tmp_path / "new", "acme")
    assert written[-1].name == "objective.yaml"
    file = read_objective(written[-1])
    assert (file.objective.tenant, file.objective.task.kind) == ("acme", {"classify-many": "classify", "chat": "generate"}.get(name, name))
    built = build_snapshot(SnapshotRequest(file.objective, Path(file.folder), Store(), {}, lambda _: None))  # type: ignore[arg-type]
    assert (built.quarantined, built.manifest.duplicates) == ((), 0)
    # Reviews and conversations of a kind are made of the same phrases; those that are alike stand in one split.
    assert (built.manifest.near_duplicate_groups == 0) is (name in ("classify", "generate"))
    check_labels(file, built.manifest)
    assert all(power.provable for power in check_power(file, built.manifest)[1])


def test_the_comments_in_a_template_can_be_taken_up() -> None:
    text = template_files("classify")["objective.yaml"]
    assert "  # - metric:" in text
    file = parse_objective(text.replace("  # - ", "  - ").replace("  #   ", "    "), "o.yaml")
    assert [kpi.metric for kpi in file.objective.kpis] == ["accuracy", "recall[lost_item]"]


def test_ranking_needs_documents_and_its_own_metrics(tmp_path: Path) -> None:
    path = write_template("rank", tmp_path)[-1]
    assert read_objective(path).objective.documents[0].path == "pages.jsonl"
    with pytest.raises(ObjectiveInvalid, match=r"'accuracy' does not fit a task of kind: rank"):
        parse_objective(path.read_text().replace("ndcg@10 ", "accuracy "), "o.yaml")
    text = path.read_text()
    without = text[: text.index("documents:")] + text[text.index("base_model:") :]
    with pytest.raises(ObjectiveInvalid, match="names no documents"):
        parse_objective(without, "o.yaml")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "messages.csv").write_text("mine")
    with pytest.raises(Conflict) as caught:
        write_template("classify", tmp_path)
    assert caught.value.error_code == "conflict"
    assert [path.name for path in tmp_path.iterdir()] == ["messages.csv"]
    assert (tmp_path / "messages.csv").read_text() == "mine"


def test_a_second_objective_gets_a_name_of_its_own(tmp_path: Path) -> None:
    assert write_template("classify", tmp_path)[-1].name == "objective.yaml"
    assert write_template("generate", tmp_path)[-1].name == "generate.yaml"
    assert write_template("generate", tmp_path)[-1].name == "generate-2.yaml"
    assert "tailorbird plan generate-2.yaml " in (tmp_path / "generate-2.yaml").read_text()


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_templates_origin_is_not_that_of_other_data(name: str, tmp_path: Path) -> None:
    file = read_objective(write_template(name, tmp_path)[-1])
    digests = {path: digest_bytes((tmp_path / path).read_bytes()) for path in file.objective.places}
    check_origins(file, digests)
    with pytest.raises(ObjectiveInvalid, match="holds other rows than the template") as refused:
        check_origins(file, digests | {file.objective.data[0].path: digest_bytes(b"mine")})
    assert refused.value.line == file.line_of("data.0.source.origin")


def test_an_unknown_template_gets_the_nearest() -> None:
    with pytest.raises(InvalidInput) as caught:
        template_files("clasify")
    assert (caught.value.error_code, caught.value.hint) == (
        "invalid_input",
        "did you mean 'classify'? templates: classify, classify-many, generate, chat, rank",
    )
