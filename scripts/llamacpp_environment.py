"""Makes an environment with llama.cpp, for the tests of what is exported for it: ``llamacpp_environment.py [FOLDER]``.

Out: FOLDER (.cache/llamacpp) with xllamacpp, which holds llama.cpp's server (34 MB); its path as the last line. Nothing is done where it is
there already. It is apart from our own environment because it is no part of the product, and is not built for every machine.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "xllamacpp==2026.10.11549"


def main(folder: Path) -> None:
    """Makes the environment."""
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", "--progress-bar", "off", PACKAGE], check=True, stdout=sys.stderr)
        ready.touch()
    print(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".cache" / "llamacpp")
