"""Reader of data files in a sandboxed parser process."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from tailorbird.data.readers.data_file import DataFile, EveryColumn, Records
from tailorbird.data.readers.parser_process import unpacked
from tailorbird.domain.errors import DataInvalid
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, start, stream

_PARSING = "tailorbird.data.readers.parser_process"
#: About what a row takes beside its characters.
_ROW = 128


def start_parser() -> None:
    """Has what parses files started, so that it is ready once the first file is read."""
    start(_PARSING)


def read_records(file: DataFile, wanted: Collection[str]) -> Records:
    """As the reader of the file's kind. Raises DataInvalid, also where reading takes more than it may (``parser_memory``,
    ``parser_processor``, ``parser_time``, ``file_expands``), and Unavailable."""
    columns = None if isinstance(wanted, EveryColumn) else sorted(wanted)
    return _records(file, "records", wanted=columns)


def read_judgements(file: DataFile) -> Iterator[tuple[int, list[str]]]:
    """As ``qrels.judgement_lines``. Raises as ``read_records``."""
    for lines in stream(job_for(file, f"{_PARSING}:judgements")):
        yield from ((int(line), [str(cell) for cell in cells]) for line, cells in lines)


def job_for(file: DataFile, target: str, **given: object) -> SandboxJob:
    """What has ``target`` look at ``file``, within limits that go by its size: of one that was compressed, what it may say goes by the size
    before, so that rows cannot multiply twice."""
    described = {
        "name": file.name,
        "path": str(file.path.absolute()),
        "digest": file.digest,
        "kind": file.kind,
        "encoding": file.encoding,
        "separator": file.separator,
        "packed": file.packed,
    }
    warm = (target.partition(":")[0], *(("pyarrow.parquet",) if file.kind == ".parquet" else ()))
    limits = SandboxLimits.for_bytes(_size(file))
    if file.packed is not None:
        limits = replace(limits, output=SandboxLimits.for_bytes(file.packed).output)
    return SandboxJob(target, {"file": described, **given}, limits, file.name, DataInvalid, warm)


def _size(file: DataFile) -> int:
    if file.path.is_dir():
        return sum(path.stat().st_size for path in file.path.rglob("*") if path.is_file())
    return file.path.stat().st_size


def _records(file: DataFile, what: str, **given: object) -> Records:
    job = job_for(file, f"{_PARSING}:{what}", **given)
    left = job.limits.output
    try:
        for batch in stream(job):
            for record in unpacked(batch, file.name):
                left -= _ROW
                if left < 0:
                    raise _expands(file)
                yield record
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise _damaged(file) from error


def _damaged(file: DataFile) -> DataInvalid:
    return DataInvalid(f"{file.name}: it cannot be read", "the file is damaged: write it again", code="file_broken")


def _expands(file: DataFile) -> DataInvalid:
    message = f"{file.name}: a small file with millions of rows"
    return DataInvalid(message, "leave out rows that say the same, or write it without compression", code="file_expands")
