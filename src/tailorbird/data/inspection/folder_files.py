"""Files of data in a folder, told apart by the splits that their names tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tailorbird.data.readers.given_splits import split_of_file
from tailorbird.data.readers.parser_process import READERS
from tailorbird.data.readers.text_files import FOLDER, SUFFIXES
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import DataInvalid

#: A folder of more files of data is not taken for one set of rows.
MOST_FILES = 100
#: Files that tell about a data set.
_ABOUT = ("dataset_info", "dataset_infos", "dataset_dict", "state", "config", "metadata", "package", "croissant")
_TERMS = ("README", "LICENSE", "LICENCE", "CHANGELOG", "CITATION")
_MEASURED = (Split.DEV, Split.TEST)
_ARROW = 'in Python: datasets.load_from_disk("{name}")["train"].to_parquet("train.parquet"), and likewise for its other splits'


@dataclass(frozen=True)
class FolderFiles:
    """Files of one data set with the split of each, those of train first and the largest of them in front; ``ignored`` are the others."""

    files: tuple[tuple[str, Split | None], ...]
    ignored: tuple[str, ...] = ()


def folder_files(name: str, folder: Path) -> FolderFiles | None:
    """The files of data in the folder ``name`` (relative to ``folder``), by paths that begin with ``name``; None where it is no folder, or
    one of texts. Raises DataInvalid where it holds no file that is read, or none but those of dev and test.

    Where names tell a split, the others are left out, unless no name says train: then they are of train. Else all are of one set.
    """
    root = folder / name
    if "://" in name or not root.is_dir():
        return None
    inside = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    shown = [path for path in inside if not any(part.startswith((".", "__MACOSX")) for part in path.parts)]
    if any(path.suffix.lower() in SUFFIXES and len(path.parts) > 1 and path.stem.upper() not in _TERMS for path in shown):
        return None
    found = [path for path in shown if _is_data(path)]
    if not found and any(path.suffix == ".arrow" for path in shown):
        raise DataInvalid(f"{name}: a data set as the library datasets keeps it", _ARROW.format(name=name), code="file_kind")
    if not found:
        return None
    if len(found) > MOST_FILES:
        raise DataInvalid(f"{name}: more than {MOST_FILES} files of data", "join them, or name one", code="too_many_files")
    split = {path: split_of_file(str(path)) for path in found}
    if Split.TRAIN not in split.values() and any(split.values()):
        split = {path: of or Split.TRAIN for path, of in split.items()}
    told = any(split.values())
    used = [path for path in found if split[path] is not None] if told else found
    if told and Split.TRAIN not in split.values():
        message = f"{name}: by their names all its files of data are of dev or test"
        raise DataInvalid(message, f"to learn from one of them, name it: {PurePosixPath(name, used[0])}", code="train_missing")
    used.sort(key=lambda path: (split[path] not in (None, Split.TRAIN), -(root / path).stat().st_size, path))
    named = tuple((str(PurePosixPath(name, path)), split[path]) for path in used)
    return FolderFiles(named, tuple(str(path) for path in shown if path not in used))


def beside(name: str, folder: Path) -> tuple[str, ...]:
    """Files beside ``name``, which is none of dev or test by its name, that are."""
    path = PurePosixPath(name)
    place = folder / path.parent
    if "://" in name or split_of_file(path.name) in _MEASURED or not (folder / name).is_file():
        return ()
    return tuple(found.name for found in _data_in(place) if split_of_file(found.name) in _MEASURED)


def _data_in(place: Path) -> Iterable[Path]:
    return (path for path in sorted(place.iterdir()) if path.is_file() and not path.name.startswith(".") and _is_data(path))


def _is_data(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return PurePosixPath(name).suffix in READERS.keys() - {FOLDER} and name.partition(".")[0] not in _ABOUT
