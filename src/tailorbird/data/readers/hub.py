"""Hugging Face hub data sets (``hf://datasets/OWNER/NAME[@REVISION][:CONFIG/SPLIT]``); only files of the repository are read."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tailorbird.data.readers.data_file import EveryColumn
from tailorbird.data.readers.parquet_file import missing_package
from tailorbird.domain.allowed_places import OF_WORKER
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.value import Value
from tailorbird.system.files import private_folder
from tailorbird.system.outward_access import grant_for
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, call, stream

PREFIX = "hf://"
#: Where older data sets tell their columns.
INFOS = "dataset_infos.json"
#: A data set of more files is not read; archives are fetched before it is known which files a split has.
MOST_FILES, ARCHIVE = 50_000, ".zip"
#: Limits of looking which files a split has; what the library takes before it has read a byte; how much disk unpacking may take: so much,
#: and so many times the bytes that were fetched.
_LOOKING = SandboxLimits(memory=3 << 30, processor=60, wait=150.0, output=16 << 20, written=1 << 26, space=1 << 26)
_LIBRARY = SandboxLimits(memory=1 << 30, processor=20, wait=40.0, output=0)
_SPACE, _TIMES = 1 << 30, 16

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_ADDRESS = re.compile(
    rf"hf://datasets/(?P<repository>{_PART}/{_PART})(?:@(?P<revision>{_PART}(?:/{_PART})*))?(?::(?P<config>{_PART})/(?P<split>{_PART}))?"
)


class HubAddress(Value):
    """A data set of the hub. Without ``revision`` it is the newest, without ``config`` the data set's default one."""

    repository: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"


def parse_address(name: str) -> HubAddress:
    """Takes an address apart. Raises DataInvalid when it does not read as one."""
    found = _ADDRESS.fullmatch(name)
    if found is None:
        hint = "write hf://datasets/OWNER/NAME, with @REVISION and :CONFIG/SPLIT where needed"
        raise DataInvalid(f"{name[:200]}: not the address of a data set on the hub", hint, code="address_form")
    return HubAddress(**{key: value for key, value in found.groupdict().items() if value is not None})


def fetch_rows(name: str, wanted: Collection[str], workspace: Path) -> Path:
    """The rows at ``name`` as JSONL, one a line: the ``wanted`` columns, and null in the others. Labels kept as numbers get their names.

    This process only downloads: which files hold the split, and what is in them, a confined process says (``hub_parser``).

    Raises DataInvalid (no such data set, revision, configuration or split; what reading takes more than it may), Forbidden (submitted work,
    and no place of its tenant covers it), Unavailable (library, network or access missing, no room).
    """
    address, grant = parse_address(name), grant_for(name)
    # False: not even the token that the library would find in the worker's environment or home.
    token = None if grant is None or grant.credential == OF_WORKER else grant.options.get("token", False)
    with _explained(name):
        repository = _Repository.open(address.repository, address.revision, token, workspace / "repository")
        repository.fetch([*CARDS, INFOS, *(file for file in repository.sizes if file.endswith(ARCHIVE))])
        parsed = _Parsed(name, address, repository.folder, workspace)
        files = parsed.files_of_split()
        size = repository.fetch(files)
        target = workspace / "rows.jsonl"
        with target.open("w", encoding="utf-8") as out:
            for lines in parsed.rows(None if isinstance(wanted, EveryColumn) else sorted(wanted), size):
                out.writelines(f"{line}\n" for line in lines)
    return target


@dataclass(frozen=True)
class _Repository:
    """One commit of a data set: its files by path, with their sizes; those that were fetched lie in ``folder``, the others are empty
    there, since the library finds the files of a split by their names."""

    hub: Any
    name: str
    commit: str
    folder: Path
    sizes: dict[str, int]

    @classmethod
    def open(cls, name: str, revision: str | None, token: str | bool | None, folder: Path) -> _Repository:
        """The commit that the revision stands for now. Raises DataInvalid (more files, or other names, than are taken)."""
        from huggingface_hub import HfApi, constants

        constants.HF_HUB_DISABLE_TELEMETRY = True  # otherwise each request tells the hub what is installed here
        hub = HfApi(token=token)
        commit: str = hub.dataset_info(name, revision=revision).sha or ""
        sizes: dict[str, int] = {}
        for entry in hub.list_repo_tree(name, recursive=True, revision=commit, repo_type="dataset"):
            # A folder has no size. What is named as no path of this machine may be is as if it were not there.
            if (size := getattr(entry, "size", None)) is not None and is_inside(entry.path):
                sizes[entry.path] = int(size)
            if len(sizes) > MOST_FILES:
                raise DataInvalid(
                    f"{name}: more than {MOST_FILES:,} files", "name a data set of fewer, larger files", code="too_many_files"
                )
        for path in sizes:
            private_folder((folder / path).parent)
            (folder / path).touch()
        return cls(hub, name, commit, folder, sizes)

    def fetch(self, paths: Iterable[str]) -> int:
        """Fetches the files, of which the repository may lack some; their bytes together. Raises Unavailable (no room)."""
        wanted = [path for path in dict.fromkeys(paths) if path in self.sizes]
        size = sum(self.sizes[path] for path in wanted)
        if 3 * size > shutil.disk_usage(self.folder.parent).free:
            raise Unavailable(f"{self.name}: {size:,} bytes, for which there is no room here", "make room on the disk", code="disk_full")
        for path in wanted:
            found = self.hub.hf_hub_download(self.name, path, repo_type="dataset", revision=self.commit)
            (self.folder / path).unlink()
            (self.folder / path).symlink_to(Path(found).resolve())
        return size


@dataclass(frozen=True)
class _Parsed:
    """A data set as a confined process reads it, without a network and without credentials."""

    name: str
    address: HubAddress
    folder: Path
    workspace: Path

    def files_of_split(self) -> list[str]:
        """Paths of the files that hold the split. Raises DataInvalid."""
        found = call(self._job("files", _LOOKING))
        if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
            raise DataInvalid(f"{self.name}: it cannot be read", "the data set is damaged", code="file_broken")
        return found

    def rows(self, wanted: list[str] | None, size: int) -> Iterator[list[str]]:
        """Lines of JSON, a batch at a time. Raises DataInvalid."""
        limits = SandboxLimits.for_bytes(size)
        limits = replace(
            limits,
            memory=limits.memory + _LIBRARY.memory,
            processor=limits.processor + _LIBRARY.processor,
            wait=limits.wait + _LIBRARY.wait,
            written=_SPACE + _TIMES * size,
            space=_SPACE + _TIMES * size,
        )
        for batch in stream(self._job("rows", limits, wanted=wanted)):
            if not isinstance(batch, list) or not all(isinstance(line, str) and "\n" not in line for line in batch):
                raise DataInvalid(f"{self.name}: it cannot be read", "the data set is damaged", code="file_broken")
            yield batch

    def _job(self, function: str, limits: SandboxLimits, **given: Any) -> SandboxJob:
        filled = private_folder(self.workspace / f"{function}-cache")
        described: dict[str, Any] = {"name": self.name, "folder": str(self.folder), "cache": str(filled)}
        described |= {"config": self.address.config, "split": self.address.split}
        target = f"tailorbird.data.readers.hub_parser:{function}"
        return SandboxJob(target, described | given, limits, self.name, DataInvalid, ("datasets",), places=(str(filled),))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What the library says, as an error of ours."""
    if find_spec("datasets") is None:  # the confined process needs it
        raise missing_package("datasets", "data sets of the hub")
    from huggingface_hub import errors as hub

    try:
        yield
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError) as error:
        hint = "check owner, name and revision; what is private or gated needs the owner's leave and a token in HF_TOKEN"
        raise DataInvalid(f"{name}: the hub has no such data set", hint, code="file_missing") from error
    except _no_answer() as error:
        hint = "check the network and HF_ENDPOINT (HF_HUB_OFFLINE must not be set), or name local files"
        raise Unavailable(f"{name}: the hub cannot be reached", hint, code="hub_unreachable") from error
    except ValueError as error:
        raise DataInvalid(f"{name}: it cannot be fetched", "check the data set's page on the hub", code="file_broken") from error
    except OSError as error:
        raise Unavailable(f"{name}: cannot be read ({type(error).__name__})", "try again later", code="hub_unreachable") from error


def _no_answer() -> tuple[type[Exception], ...]:
    """What says that the hub was not asked, or did not answer: the libraries speak through httpx, or through the httpx2 that follows it."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    clients = (sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules)
    return (ConnectionError, LocalEntryNotFoundError, *(client.HTTPError for client in clients))


#: Files of a data set in which its files may be named: the card, and the same without words.
CARDS = ("README.md", ".huggingface.yaml")
#: Below these keys a card names files and folders.
_NAMING = ("data_files", "data_dir")
_FENCE = "---"


def check_card(name: str, file: str, text: str) -> None:
    """Raises DataInvalid when the card ``file`` of the data set ``name`` cannot be read, or names what lies outside of it.

    The library ``datasets`` opens whatever a card names: an absolute path is a file of the machine that reads, an address is asked with
    that machine's credentials. Whoever owns a data set could read both.
    """
    try:
        content = yaml.load(_front(text) if file.endswith(".md") else text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        raise DataInvalid(f"{name}: its card ({file}) cannot be read", "correct the card on the hub", code="file_broken") from None
    if not all(map(is_inside, _named(content))):
        raise DataInvalid(
            f"{name}: its card ({file}) names files outside of the data set",
            "name files of the same repository, by their relative paths",
            code="card_outside",
        )


def _front(text: str) -> str:
    """The YAML at the head of a card."""
    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        return ""
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), len(lines))
    return "\n".join(lines[1:end])


def _named(content: object) -> Iterator[str]:
    """Every text below a key that names files. What aliases lead to again is looked at once."""
    ahead, seen = [(content, False)], set[tuple[int, bool]]()
    while ahead:
        value, names_files = ahead.pop()
        if isinstance(value, str):
            if names_files:
                yield value
        elif isinstance(value, dict | list) and (id(value), names_files) not in seen:
            seen.add((id(value), names_files))
            inside = value.items() if isinstance(value, dict) else ((None, each) for each in value)
            ahead += [(each, names_files or key in _NAMING) for key, each in inside]


def is_inside(path: str) -> bool:
    """True for a relative path (or pattern) that stays below its folder, and is no address or chain of them."""
    outside = path.startswith(("/", "~")) or ":" in path or "\\" in path or ".." in path.split("/")
    return not outside
