"""What an objective may do with its data: licences that allow the use, columns that fit the task.

In: an objective and its lines. Out: faults. Must not know: files, rows; terms that stand in columns are checked when rows are read.
"""

from __future__ import annotations

from tailorbird.domain.objective import TaskKind
from tailorbird.foundations.licences import clash
from tailorbird.objective.faults import Fault
from tailorbird.objective.file import ObjectiveFile

LICENSE_CLASH = "license_clash"


def data_faults(file: ObjectiveFile) -> list[Fault]:
    """Every source that may not be used, or not like this."""
    return [*_licence_faults(file), *_messages_faults(file)]


def _licence_faults(file: ObjectiveFile) -> list[Fault]:
    use, faults = file.objective.business.use, []
    for index, source in enumerate(file.objective.data):
        if why := clash(source.source.license, use):
            message = f"the licence {source.source.license[:60]} of {source.path} clashes with `business.use: {use}`: {why}"
            hint = "leave the source out, agree on other terms with its owner, or set `business.use` to what the result is really for"
            faults.append(Fault(file.line_of(f"data.{index}.source.license"), message, hint, LICENSE_CLASH))
    return faults


def _messages_faults(file: ObjectiveFile) -> list[Fault]:
    if file.objective.task.kind is TaskKind.GENERATE:
        return []
    named = [index for index, source in enumerate(file.objective.data) if source.messages]
    hint = "use kind: generate, or name `text` and `label`"
    return [Fault(file.line_of(f"data.{index}.messages"), "conversations are answered, not labelled", hint) for index in named]
