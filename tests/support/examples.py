"""The scripts of ``examples``: run whole, and in a small form with fewer rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from support.e2e import ROOT

EXAMPLES = ROOT / "examples"


def run_script(script: Path, workspace: Path, models: Path, *arguments: str) -> str:
    """What a script prints; it must end well."""
    environment = os.environ | {
        "TAILORBIRD_WORKSPACE": str(workspace),
        "TAILORBIRD_MODEL_CACHE": str(models),
        "PYTHONPATH": str(ROOT / "src"),
        "NO_COLOR": "1",
        "COLUMNS": "140",
    }
    done = subprocess.run([sys.executable, str(script), *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script.name} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def small_form(example: Path, folder: Path, lines: Mapping[str, int], **changes: Any) -> Path:
    """The objective of an example over the first ``lines`` of some of its files, with ``changes`` of its keys."""
    folder.mkdir()
    content = yaml.safe_load((example / "objective.yaml").read_text(encoding="utf-8")) | changes
    for source in (*content["data"], *content.get("documents", ())):
        kept = (example / source["path"]).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / source["path"]).write_text("".join(kept[: lines.get(source["path"])]), encoding="utf-8")
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
