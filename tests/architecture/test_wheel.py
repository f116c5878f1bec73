"""What ``make dist`` builds: a wheel that is whole, says what it needs, and works where nothing else of this project is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from email import message_from_bytes
from email.message import Message
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tailorbird import __version__
from tailorbird.system.process import build_name

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = {"local", "postgres", "data", "s3", "presidio", "ray", "dev"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both archives, built as ``make dist`` does."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t", "sdist", "-t", "wheel", cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return built / f"tailorbird-{__version__}-py3-none-any.whl"


def run(*command: str, cwd: Path | None = None, status: int = 0, **variables: str) -> str:
    """What the command prints. Nothing of this process's search path goes along."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TAILORBIRD_"))}
    done = subprocess.run(command, cwd=cwd, env=known | variables, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_every_file_of_the_package_is_in_both_archives(built: Path, wheel: Path) -> None:
    """Templates, static files, probes and the source of the compiled steps are no Python modules, and are needed."""
    tracked = run("git", "ls-files", "src/tailorbird", cwd=ROOT).split()
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    assert {path.removeprefix("src/") for path in tracked} <= inside
    with tarfile.open(built / f"tailorbird-{__version__}.tar.gz") as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {*tracked, "README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"} <= packed
    assert not {name for name in packed if name.startswith(("tests/", "benchmarks/", ".cache"))}


def test_the_metadata_say_what_it_is_and_what_it_needs(wheel: Path) -> None:
    told = metadata_of(wheel)
    assert (told["Name"], told["Version"], told["License-Expression"]) == ("tailorbird", __version__, "Apache-2.0")
    assert told["Metadata-Version"] == "2.4"
    assert told["Requires-Python"] == ">=3.11"
    assert told["Description-Content-Type"] == "text/markdown"
    assert set(told.get_all("Provides-Extra") or ()) == EXTRAS
    needed = [Requirement(text) for text in told.get_all("Requires-Dist") or ()]
    without = {one.name for one in needed if one.marker is None}
    assert "fastapi" in without
    assert not without & {"torch", "transformers", "peft", "psutil"}
    with zipfile.ZipFile(wheel) as archive:
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())


def needed_by(wants: Iterable[str], extras: frozenset[str], seen: dict[str, Distribution]) -> None:
    """Every installed distribution that is needed where ``wants`` are asked for with these extras, into ``seen``."""
    for text in wants:
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            key = wanted.name.lower().replace("_", "-")
            if key in seen:
                continue
            try:
                seen[key] = distribution(wanted.name)
            except PackageNotFoundError:
                continue  # of another platform, or a build that brings it along
            needed_by(requires(wanted.name) or (), frozenset(wanted.extras), seen)


def linked(folder: Path, extras: frozenset[str], wheel: Path) -> Path:
    """A folder with links to what the wheel needs, as it is installed here, and to nothing else."""
    folder.mkdir()
    found: dict[str, Distribution] = {}
    needed_by(metadata_of(wheel).get_all("Requires-Dist") or (), extras, found)
    for one in found.values():
        for name in {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "bin", "__pycache__")}:
            place = folder / name
            if not place.exists():
                place.symlink_to(Path(str(one.locate_file(name))))
    return folder


@pytest.fixture(scope="module", params=["", "local"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[tuple[Path, str]]:
    """A clean environment with the wheel in it, and what it needs with and without the extra; nothing is downloaded."""
    folder = tmp_path_factory.mktemp(f"clean-{request.param or 'bare'}")
    run(sys.executable, "-m", "venv", str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    run(str(python), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel))
    run(str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools")  # the environment's own is older than what torch asks for
    (place,) = (folder / "venv" / "lib").glob("python*/site-packages")
    libraries = linked(folder / "libraries", frozenset({request.param} - {""}), wheel)
    (place / "needed.pth").write_text(f"{libraries}\n")
    yield folder, request.param
    shutil.rmtree(folder)


def tailorbird(folder: Path, *arguments: str, status: int = 0, **variables: str) -> str:
    known = {"HF_HUB_OFFLINE": "1", "TAILORBIRD_FETCH_ENCODER": "false", "COLUMNS": "120"}
    return run(str(folder / "venv" / "bin" / "tailorbird"), *arguments, cwd=folder, status=status, **known | variables)


def test_pip_finds_all_that_it_needs(installed: tuple[Path, str]) -> None:
    folder, _ = installed
    assert "No broken requirements" in run(str(folder / "venv" / "bin" / "python"), "-m", "pip", "check")


def test_the_command_works_and_the_package_is_the_wheels(installed: tuple[Path, str]) -> None:
    folder, _ = installed
    assert tailorbird(folder, "--version").strip() == f"tailorbird {build_name()}", "the wheel has the files of the checkout"
    where = run(str(folder / "venv" / "bin" / "python"), "-c", "import tailorbird; print(tailorbird.__file__)", cwd=folder)
    assert Path(where.strip()).is_relative_to(folder / "venv")
    assert "adapt" in tailorbird(folder, "--help")


def test_from_an_empty_folder_to_a_plan(installed: tuple[Path, str], base_model_folder: Path) -> None:
    """With the extra it plans; without, it says what to install."""
    folder, extra = installed
    tailorbird(folder, "init", "--tenant", "acme", "--template", "classify")
    cache = {"TAILORBIRD_MODEL_CACHE": str(base_model_folder.parent)}
    if extra:
        planned = tailorbird(folder, "plan", "objective.yaml", **cache)
        assert re.search(r"^lora", planned, flags=re.MULTILINE)
    else:
        refused = tailorbird(folder, "plan", "objective.yaml", status=1, **cache)
        assert "pip install 'tailorbird[local]'" in refused
