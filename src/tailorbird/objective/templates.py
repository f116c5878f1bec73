"""Objective templates: a commented file for each kind of task, with a little synthetic data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from itertools import chain, count
from pathlib import Path

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.value import Digest
from tailorbird.objective.objective_file import Fault, ObjectiveFile, raise_faults
from tailorbird.objective.schema import objective_schema
from tailorbird.text.normalisation import nearest

#: What ``template`` has.
TEMPLATES = ("classify", "classify-many", "generate", "chat", "rank")

OBJECTIVE_FILE = "objective.yaml"
SCHEMA_FILE = "objective.schema.json"

#: What templates say of their data, and nobody else's data may say.
TEMPLATE_ORIGIN = "synthetic, written for the template of tailorbird"

_TENANT = "tenant: default "
#: Commands in the comments of an objective, which name its file.
_COMMANDS = re.compile(rf"^(#  +tailorbird (?:plan|adapt)) {re.escape(OBJECTIVE_FILE)}", re.MULTILINE)
_NAME = re.compile(r"^name: *([a-z0-9][a-z0-9._-]*)", re.MULTILINE)
_OTHER = "write whose data it is, on what terms (`license`) and what the people behind it agreed to (`consent`)"


def template_files(name: str, tenant: str = "default") -> dict[str, str]:
    """The files of the template ``name``: objective (which belongs to ``tenant``), data, and the JSON Schema for editors; path to text.

    Raises InvalidInput when there is no such template.
    """
    if name not in TEMPLATES:
        near = nearest(name, TEMPLATES)
        guess = f"did you mean {near!r}? " if near else ""
        raise InvalidInput(f"there is no template {name!r}", f"{guess}templates: {', '.join(TEMPLATES)}", code="template_unknown")
    found = _texts(name)
    objective = found[OBJECTIVE_FILE].replace(_TENANT, f"tenant: {tenant} ", 1)
    return found | {OBJECTIVE_FILE: objective, SCHEMA_FILE: _schema()}


def write_template(name: str, folder: Path, tenant: str = "default") -> tuple[Path, ...]:
    """Writes the files of a template into ``folder``, the objective last, and returns their paths. Where there is an objective.yaml, the
    objective is called after the template.

    Raises Conflict when another file with the name of its data is there: then nothing is written. Raises InvalidInput as ``template``.
    """
    texts = template_files(name, tenant)
    own = {inside: text for inside, text in texts.items() if inside not in (OBJECTIVE_FILE, SCHEMA_FILE)}
    for path in (folder / inside for inside in own):
        if (path.exists() or path.is_symlink()) and not _holds(path, own[path.name]):
            raise Conflict(f"{path} exists already", "choose an empty folder, or move the file away", code="template_exists")
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / inside for inside in sorted(own)]
    for path in written:
        if not path.exists():
            _write(path, own[path.name])
    return (*written, *write_objective(folder, name, texts[OBJECTIVE_FILE]))


def write_objective(folder: Path, name: str, text: str) -> tuple[Path, Path]:
    """Writes the JSON Schema for editors and the objective ``text`` into ``folder``: as objective.yaml, or, where one is there, under
    ``name``, with a number where that is taken, too. Returns both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = folder / SCHEMA_FILE
    if not _holds(schema, _schema()) and not schema.is_symlink():
        schema.write_text(_schema(), encoding="utf-8", newline="\n")  # it is ours, perhaps of an earlier version
    text = _named_anew(text, folder)
    for file in chain((OBJECTIVE_FILE, f"{name}.yaml"), (f"{name}-{number}.yaml" for number in count(2))):
        path = folder / file
        try:
            _write(path, _COMMANDS.sub(rf"\1 {file}", text))
        except FileExistsError:
            continue
        return schema, path
    raise AssertionError  # there is always another number


def _named_anew(text: str, folder: Path) -> str:
    """The objective under a name that no other of the folder has: two of one name would be two versions of one product."""
    taken = {
        found[1]
        for path in folder.glob("*.y*ml")
        if path.is_file() and (found := _NAME.search(path.read_text(encoding="utf-8", errors="replace")))
    }
    own = _NAME.search(text)
    if own is None or own[1] not in taken:
        return text
    name = next(free for number in count(2) if (free := f"{own[1]}-{number}") not in taken)
    return f"{text[: own.start(1)]}{name}{text[own.end(1) :]}"


def check_origins(file: ObjectiveFile, digests: Mapping[str, Digest]) -> None:
    """Raises ObjectiveInvalid at the first source that bears the origin of a template and holds other rows: whose they are, on what terms,
    would stand in the evidence as somebody else's. ``digests`` are those of the files, by their path."""
    shipped, objective = _shipped_digests(), file.objective
    named = [(f"data.{index}", source.path, source.source) for index, source in enumerate(objective.data)]
    named += [(f"documents.{index}", source.path, source.source) for index, source in enumerate(objective.documents)]
    faults = [
        Fault(file.line_of(f"{place}.source.origin"), f"{path} holds other rows than the template, and says that it is its data", _OTHER)
        for place, path, origin in named
        if origin.origin == TEMPLATE_ORIGIN and digests.get(path) not in shipped
    ]
    raise_faults(file.source, faults)


@lru_cache(maxsize=1)
def _shipped_digests() -> frozenset[Digest]:
    return frozenset(digest_bytes(text.encode()) for name in TEMPLATES for text in _texts(name).values())


def _texts(name: str) -> dict[str, str]:
    folder = files("tailorbird.objective").joinpath("templates", name)
    return {entry.name: entry.read_text(encoding="utf-8") for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)}


def _schema() -> str:
    return json.dumps(objective_schema(), indent=2, ensure_ascii=False) + "\n"


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except (OSError, ValueError):
        return False


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8", newline="\n") as out:
        out.write(text)
