"""Objectives to start from: a commented file for each kind of task, with a little synthetic data that fits it.

In: a template's name. Out: its files as text, or on disk. Must not know: workspaces, what is done with an objective.
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.foundations.text import nearest
from tailorbird.objective.editor_schema import objective_schema

#: What ``template`` has.
TEMPLATES = ("classify", "generate", "rank")

OBJECTIVE_FILE = "objective.yaml"
SCHEMA_FILE = "objective.schema.json"

_TENANT = "tenant: default "


def template(name: str, tenant: str = "default") -> dict[str, str]:
    """The files of the template ``name``: objective (which belongs to ``tenant``), data, and the JSON Schema for editors; path to text.

    Raises InvalidInput when there is no such template.
    """
    if name not in TEMPLATES:
        near = nearest(name, TEMPLATES)
        guess = f"did you mean {near!r}? " if near else ""
        raise InvalidInput(f"there is no template {name!r}", f"{guess}templates: {', '.join(TEMPLATES)}", code="template_unknown")
    folder = files("tailorbird.objective").joinpath("templates", name)
    found = {entry.name: entry.read_text(encoding="utf-8") for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)}
    objective = found[OBJECTIVE_FILE].replace(_TENANT, f"tenant: {tenant} ", 1)
    schema = json.dumps(objective_schema(), indent=2, ensure_ascii=False) + "\n"
    return found | {OBJECTIVE_FILE: objective, SCHEMA_FILE: schema}


def write_template(name: str, folder: Path, tenant: str = "default") -> tuple[Path, ...]:
    """Writes the files of a template into ``folder``, the objective last, and returns their paths.

    Raises Conflict when one of them is there already: then nothing is written. Raises InvalidInput as ``template``.
    """
    texts = template(name, tenant)
    for path in (folder / inside for inside in texts):
        if path.exists() or path.is_symlink():
            raise Conflict(f"{path} exists already", "choose an empty folder, or move the file away", code="template_exists")
    folder.mkdir(parents=True, exist_ok=True)
    written = sorted((folder / inside for inside in texts), key=lambda path: (path.name == OBJECTIVE_FILE, path.name))
    for path in written:
        with path.open("x", encoding="utf-8", newline="\n") as out:
            out.write(texts[path.name])
    return tuple(written)
