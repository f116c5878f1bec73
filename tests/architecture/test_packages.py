"""CONTRIBUTING's source layout, the layers contract and the folders list the same packages; heavy libraries load where they may."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tailorbird"


def packages() -> set[str]:
    return {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("_")}


def layers() -> list[set[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layered = next(contract for contract in contracts if contract["type"] == "layers")
    return [{name.strip() for name in layer.split("|")} for layer in layered["layers"]]


def source_layout() -> list[str]:
    return re.findall(r"^    ([a-z_]+)/ ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.M)


def test_every_package_is_in_the_layers_contract() -> None:
    assert packages() == set().union(*layers()) - {"settings", "wiring", "decoders"}


def test_contributing_lists_every_package_once() -> None:
    assert set(source_layout()) == packages()
    assert len(source_layout()) == len(packages())


def test_the_package_docstring_lists_the_packages_in_the_order_of_contributing() -> None:
    text = (PACKAGE / "__init__.py").read_text()
    listed = text[text.index("outermost:") : text.index("``settings``")].removeprefix("outermost:")
    assert re.findall(r"[a-z_]+", listed) == source_layout()


def test_help_needs_no_torch_and_no_database() -> None:
    """The verbs are listed without importing anything heavy (an import hook makes such an import fail)."""
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'torch', 'transformers', 'sqlalchemy', 'fastapi', 'sklearn', 'scipy', 'numpy'}:\n"
        "            raise ImportError(f'{name} was imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from tailorbird.cli.main import main\n"
        "main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "adapt" in done.stdout


def test_the_gateway_imports_without_torch() -> None:
    """What serve needs in its own process: gateway, ledger, driver. Torch is the engine's."""
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in {'torch', 'transformers', 'peft', 'safetensors', 'sklearn'}:\n"
        "            raise ImportError(f'{name} was imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import tailorbird.cli.serve, tailorbird.cli.adapt, tailorbird.processes.gateway\n"
        "import tailorbird.ledger, tailorbird.integrations.loopback\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_devices_are_asked_for_in_one_place() -> None:
    """What a GPU is asked for can be simulated, and is, only where all of it is known."""
    asks = re.compile(r"torch\.cuda|\"cuda\"|\.cuda\(|pin_memory|is_cuda")
    found = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if asks.search(path.read_text())}
    assert found == {"training/devices.py"}


def test_no_source_names_a_pickle_or_remote_code() -> None:
    offending = re.compile(r"\bpickle\.|torch\.load\(|trust_remote_code=True|weights_only=False")
    found = [path for path in PACKAGE.rglob("*.py") if offending.search(path.read_text())]
    assert found == []
