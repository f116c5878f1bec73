"""What five everyday actions cross stays short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.usefixtures("base_model_folder")
def test_five_chains_stay_short() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "chains.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count(" → ") > 20
