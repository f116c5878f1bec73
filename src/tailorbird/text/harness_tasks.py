"""Task files of lm-evaluation-harness, restricted to local data and no code.

A task file may name Python functions (``!function``) and data sets of the hub. Both are refused: the first would run code that came with
an objective, the second would reach into the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.value import Digest

#: Readers of local files that a task may name, and what its questions may be answered by.
READERS = ("json", "csv", "parquet")
OUTPUTS = ("multiple_choice", "generate_until")


def read_task(path: Path) -> dict[str, Any]:
    """The configuration in ``path``, with its data files as whole paths. Raises InvalidInput (``harness_task``)."""
    try:
        task = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _refused(path, f"it cannot be read ({error.strerror})", "name a file beside the objective") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _refused(path, "it is no plain YAML", "a task that names functions (!function) is not read: nothing in it may run") from error
    if not isinstance(task, dict) or not isinstance(task.get("task"), str):
        raise _refused(path, "it names no task", "write `task: NAME`, and the rest as lm-evaluation-harness has it")
    if task.get("dataset_path") not in READERS:
        raise _refused(path, "its data do not lie beside it", f"set dataset_path to one of {', '.join(READERS)}, and data_files below")
    if task.get("output_type", "generate_until") not in OUTPUTS:
        raise _refused(path, f"its output_type is {task.get('output_type')!r}", f"use one of {', '.join(OUTPUTS)}")
    return task | {"dataset_kwargs": {"data_files": _placed(path, task)}}


def digest_of_task(path: Path) -> Digest:
    """What stands for the task and its data: other bytes ask other questions. Raises as ``read_task``."""
    files = read_task(path)["dataset_kwargs"]["data_files"]
    named = {split: digest_bytes(Path(place).read_bytes()) for split, place in files.items()}
    return digest_of({"task": digest_bytes(path.read_bytes()), "files": named})


def _placed(path: Path, task: dict[str, Any]) -> dict[str, str]:
    """Data files by split, each below the task's own folder."""
    files = (task.get("dataset_kwargs") or {}).get("data_files")
    if not isinstance(files, dict) or not files:
        raise _refused(path, "it names no data files", "write dataset_kwargs: {data_files: {test: FILE}}")
    placed = {str(split): (path.parent / str(name)).resolve() for split, name in files.items()}
    for place in placed.values():
        if not place.is_file() or not place.is_relative_to(path.parent.resolve()):
            raise _refused(path, f"there is no file {place.name} beside it", "put its data into the same folder")
    return {split: str(place) for split, place in placed.items()}


def _refused(path: Path, what: str, hint: str) -> InvalidInput:
    return InvalidInput(f"the task {path.name} cannot be asked: {what}", hint, code="harness_task")
