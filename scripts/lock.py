"""Writes requirements.lock: every dependency with its hashes, torch and what only its CUDA build needs left out.

torch is left out because its build differs by platform; `make` installs it by range first. Needs pip-tools.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
LEFT_OUT = re.compile(r"^(torch==|nvidia-|cuda-|triton)")
EXTRAS = ("local", "data", "postgres", "s3", "dev")
HEADER = "# Made by `make lock`. Install torch first, by range; then this with --no-deps --require-hashes.\n"


def without_torch(compiled: str) -> str:
    """The requirement blocks of ``compiled``, comments and torch's own needs dropped."""
    blocks = re.findall(r"^[A-Za-z0-9][^\n]*==[^\n]*\\\n(?:    --hash[^\n]*\n)+", compiled, flags=re.M)
    return "".join(block for block in blocks if not LEFT_OUT.match(block))


def main() -> int:
    """Compiles and writes the lock."""
    with tempfile.TemporaryDirectory() as folder:
        build, out = Path(folder, "build.in"), Path(folder, "out.txt")
        build.write_text("hatchling\neditables\n")
        flags = ["--quiet", "--strip-extras", "--generate-hashes", "--allow-unsafe"]
        extras = [*(part for name in EXTRAS for part in ("--extra", name)), "--output-file", str(out)]
        subprocess.run([sys.executable, "-m", "piptools", "compile", *flags, *extras, "pyproject.toml", str(build)], check=True)
        LOCK.write_text(HEADER + without_torch(out.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
