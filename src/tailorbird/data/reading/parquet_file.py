"""Parquet: columns in row groups.

In: a Parquet file. Out: records, a batch in memory at a time; their "line" is the number of the row. Must not know: what the columns mean.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tailorbird.data.reading.data_file import DataFile
from tailorbird.data.reading.record import Record, Records
from tailorbird.domain.errors import DataInvalid, Unavailable

#: Rows in memory at once.
BATCH = 1024

#: Stands for a cell whose bytes are no UTF-8: half of a character, which no text may hold.
_NO_TEXT = "\ud800"


def read_parquet(file: DataFile, wanted: Collection[str]) -> Records:
    """The rows of a Parquet file; of its columns only the ``wanted`` ones are read, the others are None.

    Raises DataInvalid when the file is damaged or something else, Unavailable when pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise missing_package("pyarrow", "Parquet files") from error
    try:
        with ParquetFile(file.path) as parquet:
            names = parquet.schema_arrow.names
            _check_names(file.name, names)
            row = 0
            for batch in parquet.iter_batches(batch_size=BATCH, columns=[name for name in names if name in wanted]):
                read = dict(zip(batch.schema.names, map(_values, batch.columns), strict=True))
                for place in range(batch.num_rows):
                    row += 1
                    yield Record(row, dict.fromkeys(names) | {name: values[place] for name, values in read.items()})
    except (pyarrow.ArrowException, OSError) as error:
        hint = "write the file again: it is damaged, or not Parquet"
        raise DataInvalid(f"{file.name}: cannot be read as Parquet", hint, code="file_broken") from error


def missing_package(package: str, what: str) -> Unavailable:
    """A package that only some data need is not installed."""
    return Unavailable(f"reading {what} needs {package}", f'pip install "{package}", or "tailorbird[data]"', code="package_missing")


def _check_names(file: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DataInvalid(f"{file}: there are two columns {name[:40]!r}", "rename one of the two", code="column_twice")


def _values(column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        return [_value(cell) for cell in column]
    return values


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return _NO_TEXT
