"""How the whole HTTP surface (``/v1`` and ``/api``) holds against schemathesis: the requests that its test sends, and many more.

Sends every route requests at the edges of its description, and generated ones, right and wrong; with ``--quick`` fewer. Tells on stderr
what was wrong. Prints one line of JSON: ``schemathesis_failures`` counts the kinds of wrong answers (a route, a fault, a status).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.api_fuzz import Findings, Surface, fuzz
from support.control import furnish_office, open_office
from support.serving import House

#: Generated requests of each of three kinds, for each route.
EXAMPLES, QUICK_EXAMPLES = 300, 60


def found(examples: int) -> Findings:
    """What is found over a new workspace."""
    with tempfile.TemporaryDirectory() as folder:
        furnish_office(Path(folder))
        deps, house = open_office(Path(folder)), House.reopen(Path(folder))
        surface = Surface(deps, house)
        try:
            return fuzz(surface, examples)
        finally:
            surface.close()
            house.ledger.close()
            deps.ledger.close()


def main() -> None:
    """Looks, and prints the result."""
    started = time.perf_counter()
    findings = found(QUICK_EXAMPLES if "--quick" in sys.argv else EXAMPLES)
    for name, answer in sorted(findings.failures.items()):
        print(f"{name}\n{answer}\n", file=sys.stderr)
    told = {
        "value": len(findings.failures),
        "bar": 0,
        "unit": "kinds of wrong answers",
        "holds": not findings.failures,
        "requests": findings.requests,
        "statuses": {str(status): count for status, count in sorted(findings.statuses.items())},
        "seconds": round(time.perf_counter() - started),
    }
    print(json.dumps({"schemathesis_failures": told}))


if __name__ == "__main__":
    main()
