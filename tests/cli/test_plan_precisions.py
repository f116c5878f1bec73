"""``plan --precisions`` on the command line: the loss of each number format, what else it goes with, and where it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.bases import use_twins
from support.cli import called
from support.usecases import write_objective
from tailorbird import wiring
from tailorbird.settings import Settings
from tailorbird.testing import MemoryEngine


class _Named(MemoryEngine):
    """A twin whose fingerprint names its format."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._name = f"twin 1 2 {settings.engine_precision}/{settings.engine_adapters}"

    def fingerprint(self) -> str:
        return self._name


@pytest.fixture
def objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_twins(monkeypatch)
    monkeypatch.setattr(wiring, "open_engine", _Named)
    monkeypatch.chdir(tmp_path)
    assert called("init", "--tenant", "acme") == 0
    return write_objective(tmp_path / "job")


def test_each_format_has_a_line_and_the_next_plan_has_them_too(objective: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert called("plan", str(objective)) == 0
    said = capfd.readouterr()
    assert f"what other formats lose: tailorbird plan {objective} --precisions" in said.err
    assert called("plan", str(objective), "--precisions", "--json") == 0
    (measured,) = json.loads(capfd.readouterr().out)["formats"]
    assert [reading["format"]["precision"] for reading in measured["readings"]] == ["auto", "bf16", "int8"]
    assert called("plan", str(objective)) == 0
    said = capfd.readouterr()
    assert "engine_precision: int8 (int8/auto): accuracy 0.9" in " ".join(said.out.split())
    assert "--precisions" not in said.err


def test_base_models_are_probed_in_the_same_call(objective: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert called("plan", str(objective), "--precisions", "--probe", "--json") == 0
    plan = json.loads(capfd.readouterr().out)
    assert len(plan["formats"]) == 1
    assert plan["bases"][0]["probe"]["rows"] > 0


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--server", "http://127.0.0.1:9", "--key", "tb_x"], "formats_remote"), (["--tenants", "acme"], "tenants_options")],
)
def test_what_it_cannot_measure_is_refused(objective: Path, capfd: pytest.CaptureFixture[str], options: list[str], code: str) -> None:
    assert called("plan", str(objective), "--precisions", *options) != 0
    assert f"error[{code}]" in capfd.readouterr().err
