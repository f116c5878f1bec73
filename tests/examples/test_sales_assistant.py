"""The example with eight shops in a small form: two of them go from rows to answers."""

from __future__ import annotations

import importlib
import re
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tailorbird.settings import save_settings

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "sales_assistant"


@pytest.fixture
def vendor(tmp_path: Path, base_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example's module, and an environment in which its commands find the base model."""
    for folder in (EXAMPLE.parent, EXAMPLE):
        monkeypatch.syspath_prepend(str(folder))
    for name, value in {"HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    workspace = tmp_path / "workspace"
    workspace.mkdir(mode=0o700)
    save_settings(workspace, {"tenant": "vendor", "model_cache": str(base_model_folder.parent), "fetch_encoder": False})
    return importlib.import_module("vendor")


@pytest.mark.jobs
def test_a_small_form_goes_from_rows_to_answers(vendor: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two of the shops, without the limit on latency: what an answer takes beside other tests is nothing to judge by."""
    job = tmp_path / "job"
    (job / "rows").mkdir(parents=True)
    for tenant in ("alder", "fjord"):
        shutil.copyfile(EXAMPLE / "rows" / f"{tenant}.csv", job / "rows" / f"{tenant}.csv")
    objective = yaml.safe_load((EXAMPLE / "objective.yaml").read_text()) | {"limits": {}}
    (job / "objective.yaml").write_text(yaml.safe_dump(objective, sort_keys=False))
    vendor.tell(vendor.Vendor(tmp_path / "workspace", job), ["alder", "fjord"], ninth=False)
    said = capfd.readouterr().out
    asked = said.partition("each shop asks with its own key")[2]
    answers = dict(re.findall(r"^  (alder|fjord) +(.*)  \(release", asked.partition("━━")[0], flags=re.MULTILINE))
    assert answers["alder"].startswith("Happy trails:")
    assert answers["fjord"].startswith("Ahoy!")
    assert "the key of alder asks for fjord/sales-assistant: NotFoundError" in said
    assert re.search(r"request [2-7]: 429 quota_requests", said)
    back = said.partition("is taken back, and no other")[2].partition("━━")[0]
    assert re.search(r"^  alder +Happy trails:", back, flags=re.MULTILINE)
    assert re.search(r"^  fjord +404", back, flags=re.MULTILINE)
