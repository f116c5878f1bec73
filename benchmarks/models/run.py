"""Matrix of architectures: what was measured of training and inference, each by its own script, and the bar over both.

In: ``--quick`` (five architectures). Out: benchmarks/results/models/*.json, progress on stderr, one JSON object as the last line of stdout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FEW = ("qwen3", "gemma2", "gpt_oss", "falcon_h1", "mistral3")


def main() -> None:
    """Runs each part that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    names = FEW if parser.parse_args().quick else ()
    told: dict[str, object] = {"benchmark": "models", "bars": {}}
    for part in ("training", "inference"):
        script = HERE / f"{part}_matrix.py"
        done = subprocess.run([sys.executable, str(script), *names], stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        told = {**found, "bars": {**told["bars"], **found.get("bars", {})}}  # type: ignore[dict-item]
    print(json.dumps(told))


if __name__ == "__main__":
    main()
