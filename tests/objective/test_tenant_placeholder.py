"""An objective file for many tenants: bound to one, and refused where one tenant would take what is another's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective import parse_objective, read_objective

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
    with pytest.raises(ObjectiveInvalid):
        read_objective(path)
    assert read_objective(path, "acme").objective.tenant == "acme"


def test_braces_without_quotes_are_told_of() -> None:
    error = refused(FILE.replace('tenant: "{tenant}"', "tenant: {tenant}"))
    assert error.line == 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("rows/{tenant}.csv", "rows.csv"), 6),
        (("    shared: true\n", ""), 8),
        (("{tenant}/manual", "manual"), 12),
        (("path: small_talk", "path: talk-{tenant}"), 9),
    ],
)
def test_a_source_is_a_tenants_own_or_said_to_be_shared(change: tuple[str, str], line: int) -> None:
    error = refused(FILE.replace(*change))
    assert (error.error_code, error.line) == ("tenants_share_rows", line)


def test_a_file_that_gives_no_tenant_anything_of_its_own_is_refused() -> None:
    shared = FILE.replace("rows/{tenant}.csv", "rows.csv\n    shared: true").replace(
        '"{tenant}/manual.jsonl"', "manual.jsonl\n    shared: true"
    )
    assert refused(shared).error_code == "tenants_share_rows"


def test_in_the_objective_of_one_tenant_the_placeholder_stays() -> None:
    one = FILE.replace('tenant: "{tenant}"', "tenant: acme").replace("    shared: true\n", "")
    assert parse_objective(one, "objective.yaml", tenant="globex").objective.data[0].path == "rows/{tenant}.csv"


@pytest.mark.parametrize("tenant", ["../globex", "a/b", "Acme"])
def test_what_is_no_name_leads_nowhere(tenant: str) -> None:
    assert "`tenant` must be a name" in refused(FILE, tenant).message
