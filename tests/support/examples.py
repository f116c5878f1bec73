"""The scripts of ``examples``, run whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
