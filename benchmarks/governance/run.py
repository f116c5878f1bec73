"""Measures governance: every family of bars in this folder (``families.py``)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from families import main

if __name__ == "__main__":
    sys.exit(main("governance", "Measures governance."))
