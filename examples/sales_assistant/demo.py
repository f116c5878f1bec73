"""Eight shops and one objective, from rows to answers over HTTP: adapted, released, served, limited, one rolled back, a ninth added.

    python examples/sales_assistant/demo.py

It drives the ``tailorbird`` command line as a vendor would, and prints every command. Where ``TAILORBIRD_WORKSPACE`` names a folder, that
stays, and a script that is run again goes on from the state it finds.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from make_rows import ROWS
from story import temporary_workspace
from vendor import Vendor, tell

HERE = Path(__file__).resolve().parent


def main() -> None:
    started = time.monotonic()
    tenants = [line for line in (HERE / "tenants.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    with temporary_workspace() as workspace:
        # The job is copied beside the workspace: the ninth shop's rows arrive there later.
        job = workspace.with_name(f"{workspace.name}-job")
        shutil.copytree(HERE, job, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
        tell(Vendor(workspace, job), tenants)
    print(f"\nIt took {time.monotonic() - started:.0f} s for {len(tenants) + 1} shops with {ROWS} rows each.")


if __name__ == "__main__":
    main()
