"""What an objective may do with its data: licences that allow the use, columns that fit the task.

In: an objective and its lines. Out: faults. Must not know: files, rows; terms that stand in columns are checked when rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tailorbird.domain.objective import FILL_IN, TaskKind
from tailorbird.foundations.licences import clash
from tailorbird.objective.faults import Fault
from tailorbird.objective.file import ObjectiveFile

LICENSE_CLASH = "license_clash"

#: What is written in place of a text that is still open, by the last part of its key.
_ASKED = {
    "origin": 'write whose data it is, in its place: "mails to our support desk, 2024"',
    "license": 'write on what terms it may be used, in its place: an SPDX name as CC-BY-4.0, or "proprietary, our own"',
    "consent": 'write what the people behind it agreed to, in its place: "terms of service, section 4", or "not needed: ..."',
}


def data_faults(file: ObjectiveFile) -> list[Fault]:
    """Every source that may not be used, or not like this."""
    return [*_open_faults(file), *_licence_faults(file), *_messages_faults(file)]


def _open_faults(file: ObjectiveFile) -> list[Fault]:
    """Texts that somebody must still write."""
    plain = file.objective.model_dump(mode="json")
    return [
        Fault(file.line_of(path), f"`{path}` is still to be filled in ({text.removeprefix(FILL_IN).strip(' :') or 'a text'})", _hint(path))
        for path, text in _texts(plain, "")
        if text.startswith(FILL_IN)
    ]


def _hint(path: str) -> str:
    return _ASKED.get(path.rpartition(".")[2], "write what is meant in its place")


def _texts(plain: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every text of the objective, with the path of its key."""
    if isinstance(plain, str):
        yield path, plain
    parts = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in parts:
        yield from _texts(value, f"{path}.{key}" if path else str(key))


def _licence_faults(file: ObjectiveFile) -> list[Fault]:
    use, faults = file.objective.business.use, []
    for index, source in enumerate(file.objective.data):
        if why := clash(source.source.license, use):
            message = f"the licence {source.source.license[:60]} of {source.path} clashes with `business.use: {use}`: {why}"
            hint = "leave the source out, agree on other terms with its owner, or set `business.use` to what the result is really for"
            faults.append(Fault(file.line_of(f"data.{index}.source.license"), message, hint, LICENSE_CLASH))
    return faults


def _messages_faults(file: ObjectiveFile) -> list[Fault]:
    task = file.objective.task
    if task.learn == "all" and not any(source.messages for source in file.objective.data):
        hint = "name the column of turns, `messages`, under `data`; or remove `learn`"
        return [Fault(file.line_of("task.learn"), "`learn: all` is about conversations, and no source has any", hint)]
    if task.kind is TaskKind.GENERATE:
        return []
    named = [index for index, source in enumerate(file.objective.data) if source.messages]
    hint = "use kind: generate, or name `text` and `label`"
    return [Fault(file.line_of(f"data.{index}.messages"), "conversations are answered, not labelled", hint) for index in named]
