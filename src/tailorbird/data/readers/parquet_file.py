"""Parquet files, read by row group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from tailorbird.data.readers.data_file import DataFile, EveryColumn, Record, Records, length_of
from tailorbird.domain.errors import DataInvalid, Unavailable

#: Rows in memory at once.
BATCH = 1024

#: About how many bytes of cells.
BATCH_BYTES = 1 << 25
#: A file that holds more than so many times its own size, beyond so many bytes, is no data but a trap.
MOST_TIMES, MOST_BYTES = 100, 1_000_000_000

#: Numbers of a list of floating-point ones that inspection sees.
NUMBERS = 8

#: Types, by how their names begin, whose values are those of JSON, or dates.
_PLAIN = ("string", "large_string", "string_view", "int", "uint", "float", "double", "halffloat", "bool", "null", "date", "timestamp")


def read_parquet(file: DataFile, wanted: Collection[str]) -> Records:
    """The rows of a Parquet file; of its columns only the ``wanted`` ones are read, the others are None.

    Raises DataInvalid when the file is damaged or something else, Unavailable when pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile, read_schema
    except ImportError as error:
        raise missing_package("pyarrow", "Parquet files") from error
    try:
        texts = [field.name for field in read_schema(file.path) if field.name in wanted and str(field.type).endswith("string")]
        with ParquetFile(file.path, read_dictionary=texts) as parquet:
            names = parquet.schema_arrow.names
            _check_names(file.name, names)
            inside = [name for name in names if name in wanted]
            batch_size, row = _batch_size(file, parquet.metadata), 0
            expanded = _Expanded(file)
            for batch in parquet.iter_batches(batch_size=batch_size, columns=inside):
                columns = map(_begun, batch.columns) if isinstance(wanted, EveryColumn) else batch.columns
                read = dict(zip(batch.schema.names, map(_values, columns), strict=True))
                expanded.add(read.values())
                for place in range(batch.num_rows):
                    row += 1
                    yield Record(row, dict.fromkeys(names) | {name: values[place] for name, values in read.items()})
    except (pyarrow.ArrowException, OSError) as error:
        hint = "write the file again: it is damaged, or not Parquet"
        raise DataInvalid(f"{file.name}: cannot be read as Parquet", hint, code="file_broken") from error


def _batch_size(file: DataFile, metadata: Any) -> int:
    """So many rows that a batch of usual ones takes little memory. Raises DataInvalid where the file says itself that it bursts."""
    size = sum(int(metadata.row_group(number).total_byte_size) for number in range(metadata.num_row_groups))
    _check_size(file, size)
    return max(1, min(BATCH, BATCH_BYTES * int(metadata.num_rows) // max(1, size)))


class _Expanded:
    """Counts what comes out of a file: what repeats is stored once in it, however often it is read."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._characters = 0

    def add(self, columns: Iterable[list[Any]]) -> None:
        """Raises DataInvalid where far more has come out than lies in the file."""
        self._characters += sum(length_of(value) for column in columns for value in column)
        _check_size(self._file, self._characters)


def _check_size(file: DataFile, size: int) -> None:
    stored = file.path.stat().st_size if file.packed is None else file.packed
    if size > MOST_BYTES + MOST_TIMES * stored:
        hint = f"a file may hold {MOST_TIMES} times its size and {MOST_BYTES:,} bytes more; leave out rows that say the same"
        raise DataInvalid(f"{file.name}: a small file that expands to gigabytes", hint, code="file_expands")


def missing_package(package: str, what: str) -> Unavailable:
    """A package that only some data need is not installed."""
    return Unavailable(f"reading {what} needs {package}", f'pip install "{package}", or "tailorbird[data]"', code="package_missing")


def _check_names(file: str, names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise DataInvalid(f"{file}: there are two columns {name[:40]!r}", "rename one of the two", code="column_twice")


def _begun(column: Any) -> Any:
    """Vectors are known by their first numbers, where nobody asks for them: whoever looks at a file walked each number of each."""
    from pyarrow import compute, types

    kind = column.type
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return compute.list_slice(column, 0, NUMBERS) if lists and types.is_floating(kind.value_type) else column


def _values(column: Any) -> list[Any]:
    """The cells; those of a dictionary are one object each, however often they stand in the column."""
    if hasattr(column, "dictionary"):
        values = _values(column.dictionary)
        return [None if place is None else values[place] for place in column.indices.to_pylist()]
    try:
        cells: list[Any] = column.to_pylist()
    except (ValueError, OverflowError):
        cells = [_value(cell) for cell in column]
    return cells if str(column.type).startswith(_PLAIN) else [plain(cell) for cell in cells]


def _value(cell: Any) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        return NO_TEXT
    except (ValueError, OverflowError):  # a time finer or farther than Python's: its number
        return str(cell.cast("int64"))


#: Stands for a cell whose bytes are no UTF-8: half of a character, which no text may hold.
NO_TEXT = "\ud800"


def plain(value: Any, *, within: bool = False) -> Any:
    """``value`` with bytes and decimals as texts, durations in seconds, maps as objects, and, ``within`` another value, dates as texts."""
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, dict):
        return {str(key): plain(inner, within=True) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return _items(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, time) or (within and isinstance(value, date)):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | date) else str(value)


def _items(value: list[Any] | tuple[Any, ...]) -> Any:
    """A map is read as pairs."""
    if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        return {str(key): plain(inner, within=True) for key, inner in value}
    return [plain(item, within=True) for item in value]


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return NO_TEXT
