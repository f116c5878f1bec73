"""The environments of the peers, made once below ``.cache/peers``.

In: nothing. Out: the Python of an environment, and versions of what is in it. Must not know: what is measured.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

NEEDS = {
    "privacy": ("presidio-analyzer==2.2.*", "faker==37.*", "phonenumbers"),
    "near": ("rensa==0.5.*", "datasketch==2.*", "numpy>=2"),
}


def python_of(name: str) -> Path:
    """The Python of the environment ``name``, which is made when it is missing or incomplete."""
    folder = ROOT / ".cache" / "peers" / f"data-{name}"
    python, done = folder / "bin" / "python", folder / "complete"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--progress-bar", "off", *NEEDS[name]]
        subprocess.run(command, check=True, stdout=sys.stderr)
        done.touch()
    return python


def versions(name: str) -> dict[str, str]:
    """What stands in the environment, by package, as far as ``NEEDS`` names it."""
    frozen = subprocess.run([str(python_of(name)), "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    found = dict(line.lower().replace("_", "-").split("==") for line in frozen.splitlines() if "==" in line)
    asked = {need.partition("==")[0].partition(">=")[0] for need in NEEDS[name]}
    return {package: version for package, version in found.items() if package in asked}
