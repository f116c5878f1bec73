"""Parser functions of the sandboxed process for hub data sets: the files of a split, and its rows as lines of JSON."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tailorbird.data.readers.hub import CARDS, check_card
from tailorbird.domain.errors import DataInvalid

#: A card of more bytes is not read.
LARGEST_CARD = 1_000_000
#: Rows and about how many characters go together.
_ROWS, _CHARACTERS = 1024, 1 << 20


def files(given: dict[str, Any]) -> Iterator[list[str]]:
    """The files of the split, by their paths below the data set's folder. Raises DataInvalid."""
    with _explained(given):
        yield _paths(_builder(given), given)


def rows(given: dict[str, Any]) -> Iterator[list[str]]:
    """The rows of the split as lines of JSON: the ``wanted`` columns (None: all), and null in the others. Raises DataInvalid."""
    with _explained(given):
        builder = _builder(given)
        dataset = _split(builder, given)
        from datasets.features.features import require_decoding

        names = dataset.column_names
        # A picture or a sound is a path that decoding would open, wherever it leads.
        media = {column for column, feature in dataset.features.items() if require_decoding(feature)}
        wanted = names if given["wanted"] is None else given["wanted"]
        read = dataset.select_columns([column for column in names if column in wanted and column not in media])
        decoders = {column: feature for column, feature in read.features.items() if hasattr(feature, "int2str")}
        yield from _batches(
            json.dumps(
                dict.fromkeys(names) | {column: _label_name(decoders.get(column), value) for column, value in row.items()},
                sort_keys=True,
                default=str,
            )
            for row in (read if read.column_names else ({} for _ in range(len(dataset))))
        )


def _batches(lines: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) >= _ROWS or size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _builder(given: dict[str, Any]) -> Any:
    """What the library would read the data set with."""
    tempfile.tempdir = given["cache"]
    import datasets

    datasets.disable_progress_bars()
    folder = Path(given["folder"])
    for file in CARDS:
        _check(given["name"], folder / file)
    return datasets.load_dataset_builder(str(folder), name=given["config"], cache_dir=given["cache"])


def _check(name: str, card: Path) -> None:
    if not card.is_file():
        return
    if card.stat().st_size > LARGEST_CARD:
        message = f"{name}: its card ({card.name}) has {card.stat().st_size:,} bytes"
        raise DataInvalid(message, "shorten the card on the hub", code="file_broken")
    check_card(name, card.name, card.read_text(encoding="utf-8", errors="replace"))


def _paths(builder: Any, given: dict[str, Any]) -> list[str]:
    """The files of the split. Raises DataInvalid where there is no such split, or a file lies elsewhere."""
    found, folder = builder.config.data_files or {}, Path(given["folder"]).resolve()
    if given["split"] not in found:
        raise ValueError("no such split")
    paths = [Path(str(path)) for path in found[given["split"]]]
    if not all(path.is_absolute() and path.is_relative_to(folder) and ".." not in path.parts for path in paths):
        raise DataInvalid(
            f"{given['name']}: it names files outside of the data set", "name files of the same repository", code="card_outside"
        )
    return [path.relative_to(folder).as_posix() for path in paths]


def _split(builder: Any, given: dict[str, Any]) -> Any:
    """The split, unpacked into the cache; other splits are not looked at."""
    from datasets.data_files import DataFilesDict

    _paths(builder, given)
    builder.config.data_files = DataFilesDict({given["split"]: builder.config.data_files[given["split"]]})
    builder.download_and_prepare(verification_mode="no_checks")
    return builder.as_dataset(split=given["split"])


def _label_name(feature: Any, value: Any) -> Any:
    """The name of a label that is stored as its number; -1 stands for a label that is not told."""
    if feature is None or value is None:
        return value
    return feature.int2str(value) if value >= 0 else None


@contextmanager
def _explained(given: dict[str, Any]) -> Iterator[None]:
    """What the library says, as an error of ours."""
    try:
        yield
    except DataInvalid:
        raise
    except Exception as error:
        raise _meaning(given["name"], error) from error


def _meaning(name: str, error: Exception) -> DataInvalid:
    import datasets

    if _fills_disk(error):
        hint = "a data set that expands beyond measure: give its content as plain files"
        return DataInvalid(f"{name}: unpacking it takes more disk than it may", hint, code="file_expands")
    if isinstance(error, FileNotFoundError):
        return DataInvalid(f"{name}: the data set has no files that are rows", "check the data set's page on the hub", code="file_missing")
    if isinstance(error, ValueError | datasets.exceptions.DatasetsError):
        hint = "check the configuration and the split: hf://datasets/OWNER/NAME:CONFIG/SPLIT (its page on the hub lists them)"
        return DataInvalid(f"{name}: the data set has no such rows, or they cannot be read", hint, code="file_broken")
    return DataInvalid(f"{name}: it cannot be read ({type(error).__name__})", "check the data set's page on the hub", code="file_broken")


def _fills_disk(error: BaseException | None) -> bool:
    """True where the exception, or the one that led to it, says that a file became too large."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ENOSPC):
            return True
        error = error.__cause__ or error.__context__
    return False
