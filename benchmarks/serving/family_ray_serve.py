"""What Ray Serve adds to a request, beside what our gateway adds: neither has an engine that computes.

Ours does what a gateway must (key, four limits, routing, a committed row); Serve passes a request through its proxy to one replica, and
does none of it. Ray Serve is that of ``ray[serve]`` in an environment of its own, within a network namespace: it listens beyond loopback.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import family_gateway_overhead
from engines import ROOT
from run import Bar, Measured

BARS: dict[str, Bar] = {"ray_serve_overhead_vs_gateway": (1.0, 3.0, "ratio", False)}
_PLACE, _PACKAGE = ROOT / ".cache" / "ray-serve", "ray[serve]==2.60.0"


def measure(quick: bool) -> Measured:
    python, count = _environment(), 500 if quick else 2000
    inside = ["unshare", "-n", "bash", "-c", 'ip link set lo up && exec "$@"', "bash"]
    command = [*inside, str(python), str(Path(__file__).with_name("ray_serve_app.py")), str(count)]
    done = subprocess.run(command, env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}, stdout=subprocess.PIPE, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = family_gateway_overhead.measure(quick)
    added = sorted(run["median"] for run in theirs["sequential"])[1]
    values = {"ray_serve_overhead_vs_gateway": round(added / ours.values["gateway_overhead_median_ms"], 2)}
    return Measured(values, {"Ray Serve": theirs, "gateway": ours.detail})


def _environment() -> Path:
    """The interpreter of an environment with Ray Serve, made where there is none."""
    python = _PLACE / "bin" / "python"
    if not (_PLACE / "ready").exists():
        venv.create(_PLACE, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", _PACKAGE], check=True, stdout=sys.stderr)
        (_PLACE / "ready").touch()
    return python
