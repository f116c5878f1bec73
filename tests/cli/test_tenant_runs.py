"""``--tenants`` on the command line: the table, the JSON, and an exit status that says whether all of them went well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.bases import use_twins
from support.cli import called
from support.tenants import write_tenants
from tailorbird.usecases.runs import submit as runs

Call = Callable[..., int]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    use_twins(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def call(*arguments: str) -> int:
        capfd.readouterr()
        return called(*arguments)

    assert call("init", "--tenant", "host") == 0
    for tenant in ("bolt", "cove"):
        assert call("tenant", "add", tenant) == 0
    return call


def test_a_line_a_tenant_and_status_0_where_each_has_a_release(call: Call, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    objective = str(write_tenants(tmp_path / "job", ("bolt", "cove")))
    assert call("adapt", objective, "--tenants", "bolt,cove") == 0
    said = capfd.readouterr()
    head, *lines = said.out.splitlines()
    assert head.split() == ["tenant", "rung", "KPI", "measured", "on", "verdict", "release"]
    assert [line.split()[:2] for line in lines] == [["bolt", "floor"], ["cove", "floor"]]
    assert "cove (2 of 2): step snapshot" in said.err
    assert "--as TENANT/approver" in said.err
    assert call("adapt", objective, "--tenants", "all", "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert [(each["tenant"], each["state"], each["done_before"]) for each in told] == [
        ("bolt", "release", True),
        ("cove", "release", True),
        ("host", "left_out", False),
    ]


def test_status_1_where_one_failed_and_4_where_one_got_no_release(call: Call, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    objective = write_tenants(tmp_path / "job", ("bolt", "cove"))
    (objective.parent / "rows" / "bolt.csv").unlink()
    assert call("adapt", str(objective), "--tenants", "bolt,cove") == 1
    out = capfd.readouterr().out
    assert "bolt failed: " in out
    assert "[file_missing]" in out
    assert "hint: " in out
    hard = write_tenants(
        tmp_path / "hard", ("bolt", "cove"), ladder=["prompt"], floor="reference", kpis=[{"metric": "accuracy", "target": 0.97}]
    )
    assert call("adapt", str(hard), "--tenants", "cove") == 4
    assert "cove: no release: " in capfd.readouterr().out


def test_an_interruption_says_how_many_are_done(
    call: Call, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, real = str(write_tenants(tmp_path / "job", ("bolt", "cove"))), runs.adapt

    def cut_off(deps, actor, path, progress, **options):  # type: ignore[no-untyped-def]
        if actor.tenant == "cove":
            raise KeyboardInterrupt
        return real(deps, actor, path, progress, **options)

    monkeypatch.setattr(runs, "adapt", cut_off)
    assert call("adapt", objective, "--tenants", "bolt,cove") == 130
    said = capfd.readouterr().err
    assert "1 of 2 tenants are done, and stay so" in said
    assert f"go on with: tailorbird adapt {objective} --tenants bolt,cove" in said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("adapt", "{}", "--tenants", "bolt", "--as", "bolt/author"), "invalid_input"),
        (("adapt", "{}", "--tenants", "bolt", "--why"), "invalid_input"),
        (("adapt", "{}", "--tenants", "../bolt"), "invalid_input"),
        (("adapt", "{}", "--tenants", "colt"), "tenant_missing"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    call: Call, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: str
) -> None:
    objective = str(write_tenants(tmp_path / "job", ("bolt",)))
    assert call(*(argument.format(objective) for argument in arguments)) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert f"error[{code}]" in said.err
    assert "hint: " in said.err
