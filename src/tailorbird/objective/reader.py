"""Reader of ``objective.yaml``: an objective, or an error with the faulty line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective.objective_file import EXAMPLE, ObjectiveFile, bind_tenant, raise_faults, read_tree
from tailorbird.objective.rules import faults_of
from tailorbird.objective.schema import objective_from
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, stream

#: A file larger than this (bytes) is not read.
MAX_BYTES = 1 << 18


def read_objective(path: Path, tenant: str = "") -> ObjectiveFile:
    """The objective in the file ``path``, bound to ``tenant`` where it is written for many. Raises ObjectiveInvalid, with the line, when
    there is none that can be pursued."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ObjectiveInvalid(f"{path}: there is no such file", "give the path of an objective.yaml") from error
    except OSError as error:
        raise ObjectiveInvalid(f"{path}: cannot be read: {error.strerror}", "give the path of a readable objective.yaml") from error
    return _parse(_decoded(data, str(path)), str(path), path.resolve().parent, tenant)


def parse_objective(text: str, source: str, *, tenant: str = "") -> ObjectiveFile:
    """The objective in ``text``, bound to ``tenant`` where it is written for many.

    ``source`` is the file's name for errors, and its folder is where relative data paths start.

    Raises ObjectiveInvalid with the first faulty line; faults on further lines are named in the message.
    """
    return _parse(text, source, Path(source).parent, tenant)


def _parse(text: str, source: str, folder: Path, tenant: str) -> ObjectiveFile:
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ObjectiveInvalid(
            f"{source}:1: larger than 256 KiB", "an objective is a page of text; data goes into files of its own", line=1
        )
    tree = read_tree(text, source)
    if tree.value is None and not tree.faults:
        raise ObjectiveInvalid(f"{source}:1: the file is empty", EXAMPLE, line=1)
    for_tenants = bind_tenant(tree, tenant)
    objective, faults = objective_from(tree.value, tree.lines)
    raise_faults(source, [*tree.faults, *(fault for fault in faults if fault.line not in {known.line for known in tree.faults})])
    assert objective is not None
    file = ObjectiveFile(objective=objective, folder=str(folder), lines=tree.lines, source=source, for_tenants=for_tenants)
    raise_faults(source, faults_of(file))
    return file


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ObjectiveInvalid(f"{source}:{line}: not UTF-8 text", "save the file as UTF-8", line=line) from error


_LIMITS = SandboxLimits(memory=1 << 30, processor=10, wait=60.0, output=1 << 26)


def parse_submitted(text: str, name: str, tenant: str = "") -> ObjectiveFile:
    """As ``parse_objective``. Raises ObjectiveInvalid, Unavailable."""
    given = {"text": text, "name": name, "tenant": tenant}
    job = SandboxJob(f"{__name__}:parsed", given, _LIMITS, name, ObjectiveInvalid, (__name__,), "objective_invalid")
    try:
        return ObjectiveFile.model_validate_json("".join(stream(job)))
    except (TypeError, ValueError) as error:
        raise ObjectiveInvalid(f"{name}: it cannot be read", "write it again, as plain YAML") from error


def parsed(given: dict[str, Any]) -> Iterator[str]:
    """In a confined process: the objective as JSON. Raises ObjectiveInvalid."""
    yield parse_objective(given["text"], given["name"], tenant=given["tenant"]).model_dump_json()
