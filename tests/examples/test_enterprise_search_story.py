"""The script of enterprise search goes from data to answers over HTTP, and holds what each key was shown against what it may read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "enterprise_search"


@pytest.mark.jobs
@pytest.mark.usefixtures("encoder_folder")
def test_the_whole_example_goes_from_data_to_answers(tmp_path: Path, base_model_folder: Path) -> None:
    environment = os.environ | {
        "TAILORBIRD_WORKSPACE": str(tmp_path / "workspace"),
        "TAILORBIRD_MODEL_CACHE": str(base_model_folder.parent),
    }
    done = subprocess.run([sys.executable, EXAMPLE / "demo.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "No key was shown a passage of another group." in done.stdout
