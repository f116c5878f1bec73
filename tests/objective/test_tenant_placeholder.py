"""An objective file for many tenants: bound to one, and refused where one tenant would take what is another's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective import objective_schema, parse_objective, read_objective

FILE = """\
name: sales
tenant: "{tenant}"
business: {goal: "Answer what {tenant} is asked.", owner: "{tenant} sales", risk: limited}
task: {kind: generate, instruction: "Answer as {tenant}."}
data:
  - path: rows/{tenant}.csv
    source: {origin: "mails to {tenant}", license: proprietary}
  - path: small_talk.csv
    shared: true
    source: {origin: us, license: proprietary}
documents:
  - path: "{tenant}/manual.jsonl"
    source: {origin: "{tenant}", license: proprietary}
kpis:
  - {metric: token_f1, target: 0.5}
"""


def refused(text: str, tenant: str = "acme") -> ObjectiveInvalid:
    with pytest.raises(ObjectiveInvalid) as caught:
        parse_objective(text, "objective.yaml", tenant=tenant)
    return caught.value


def test_every_text_is_bound_to_the_tenant_and_nothing_else_is() -> None:
    file = parse_objective(FILE, "objective.yaml", tenant="acme")
    objective = file.objective
    assert file.for_tenants
    assert (objective.name, objective.tenant) == ("sales", "acme")
    assert objective.places == ("rows/acme.csv", "small_talk.csv", "acme/manual.jsonl")
    assert (objective.business.owner, objective.task.instruction) == ("acme sales", "Answer as acme.")
    assert [source.source.origin for source in objective.data] == ["mails to acme", "us"]
    assert [source.shared for source in objective.data] == [False, True]


def test_nothing_of_one_tenant_stands_in_the_objective_of_another() -> None:
    assert "acme" not in parse_objective(FILE, "objective.yaml", tenant="globex").objective.model_dump_json()


def test_a_file_for_many_tenants_needs_one(tmp_path: Path) -> None:
    path = tmp_path / "objective.yaml"
    path.write_text(FILE)
    with pytest.raises(ObjectiveInvalid, match=r"objective.yaml:2: the objective is for many tenants, and none is named") as caught:
        read_objective(path)
    assert "--tenants" in caught.value.hint
    assert read_objective(path, "acme").objective.tenant == "acme"


def test_braces_without_quotes_are_told_of() -> None:
    error = refused(FILE.replace('tenant: "{tenant}"', "tenant: {tenant}"))
    assert (error.line, error.message.splitlines()[0]) == (2, "objective.yaml:2: `tenant` is a section here: braces begin one")
    assert '"{tenant}", in quotes' in error.hint


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (("rows/{tenant}.csv", "rows.csv"), 6, "`data.0.path` is the same for every tenant"),
        (("    shared: true\n", ""), 8, "`data.1.path` is the same for every tenant"),
        (("{tenant}/manual", "manual"), 12, "`documents.0.path` is the same for every tenant"),
        (("    shared: true", "    qrels: judged.csv"), 8, "`data.1.path` is the same for every tenant"),
        (("path: small_talk", "path: talk-{tenant}"), 9, "`data.1.shared` is true, and the place is a tenant's own"),
    ],
)
def test_a_source_is_a_tenants_own_or_said_to_be_shared(change: tuple[str, str], line: int, told: str) -> None:
    error = refused(FILE.replace(*change))
    assert (error.error_code, error.line) == ("tenants_share_rows", line)
    assert told in error.message


def test_a_file_that_gives_no_tenant_anything_of_its_own_is_refused() -> None:
    shared = FILE.replace("rows/{tenant}.csv", "rows.csv\n    shared: true").replace(
        '"{tenant}/manual.jsonl"', "manual.jsonl\n    shared: true"
    )
    error = refused(shared)
    assert error.error_code == "tenants_share_rows"
    assert "`data` gives no tenant anything of its own" in error.message


def test_shared_means_nothing_in_the_objective_of_one_tenant() -> None:
    error = refused(FILE.replace('tenant: "{tenant}"', "tenant: acme"))
    assert "`shared` is said between tenants" in error.message


def test_in_the_objective_of_one_tenant_the_placeholder_stays() -> None:
    one = FILE.replace('tenant: "{tenant}"', "tenant: acme").replace("    shared: true\n", "")
    assert parse_objective(one, "objective.yaml", tenant="globex").objective.data[0].path == "rows/{tenant}.csv"


@pytest.mark.parametrize("tenant", ["../globex", "a/b", "..", "Acme", "-a", "a b"])
def test_what_is_no_name_leads_nowhere(tenant: str) -> None:
    assert "`tenant` must be a name" in refused(FILE, tenant).message


def test_names_are_the_same_for_all() -> None:
    assert "`name` must be a name" in refused(FILE.replace("name: sales", 'name: "sales-{tenant}"')).message


def test_a_source_that_is_not_shared_has_the_digest_that_it_had_before_there_was_sharing() -> None:
    objective = parse_objective(FILE, "objective.yaml", tenant="acme").objective
    assert digest_of(objective.data[0]) == digest_of(objective.data[0].model_copy(update={"shared": False}))


def test_editors_take_the_placeholder_and_names() -> None:
    written, name = objective_schema()["properties"]["tenant"]["anyOf"]
    assert written == {"const": "{tenant}"}
    assert re.search(name["pattern"], "acme")
    assert not re.search(name["pattern"], "{tenant}")
