"""``tailorbird`` with the real rooms, in a process that may be killed: ``killed_story.py KILL MOMENTS ARGUMENT...``.

In: what to die of, as JSON (``null``: of nothing), a file for the moments that are passed (empty: none), and the command line. Out: its
exit status. Leases are short, so that nobody waits for a dead process's; nothing else is changed.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path

from tailorbird.cli.main import main
from tailorbird.usecases.runs import engine

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.moments import Kill, Passing, watch

#: Seconds that a dead process's lease lasts.
LEASE_SECONDS = 2.0

if __name__ == "__main__":
    engine.LEASE, engine.HEARTBEAT_SECONDS = timedelta(seconds=LEASE_SECONDS), LEASE_SECONDS / 4
    import_module("tailorbird.training")  # so that its checkpoints are watched too
    given = json.loads(sys.argv[1])
    watch(Passing(Kill(**given) if given else None, Path(sys.argv[2]) if sys.argv[2] else None))
    sys.exit(main(sys.argv[3:]))
