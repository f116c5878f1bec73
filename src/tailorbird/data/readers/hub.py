"""Hugging Face hub data sets (``hf://datasets/OWNER/NAME[@REVISION][:CONFIG/SPLIT]``); only files of the repository are read."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tailorbird.data.readers.parquet_file import missing_package
from tailorbird.domain.allowed_places import OF_WORKER
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.value import Value
from tailorbird.system.source_access import grant_for

#: Files of a data set in which its files may be named: the card, and the same without words.
CARDS = ("README.md", ".huggingface.yaml")
#: A card of more bytes is not read.
LARGEST = 1_000_000
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
    if not all(map(_is_inside, _named(content))):
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


def _is_inside(path: str) -> bool:
    """True for a relative path (or pattern) that stays below its folder, and is no address or chain of them."""
    outside = path.startswith(("/", "~")) or ":" in path or "\\" in path or ".." in path.split("/")
    return not outside


PREFIX = "hf://"

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

    Raises DataInvalid (no such data set, revision, configuration or split), Forbidden (submitted work, and no place of its tenant covers
    it), Unavailable (library, network or access missing).
    """
    address, grant = parse_address(name), grant_for(name)
    # False: not even the token that the library would find in the worker's environment or home.
    token = None if grant is None or grant.credential == OF_WORKER else grant.options.get("token", False)
    with _explained(name):
        from datasets.features.features import require_decoding

        dataset = _load(address, token)
        names = dataset.column_names
        # A picture or a sound is a path that decoding would open, wherever it leads.
        media = {column for column, feature in dataset.features.items() if require_decoding(feature)}
        read = dataset.select_columns([column for column in names if column in wanted and column not in media])
        decoders = {column: feature for column, feature in read.features.items() if hasattr(feature, "int2str")}
        target = workspace / "rows.jsonl"
        with target.open("w", encoding="utf-8") as out:
            for row in read if read.column_names else ({} for _ in range(len(dataset))):
                named = {column: _label_name(decoders.get(column), value) for column, value in row.items()}
                out.write(json.dumps(dict.fromkeys(names) | named, sort_keys=True, default=str) + "\n")
        return target


def _load(address: HubAddress, token: str | bool | None) -> Any:
    """The rows of the one commit that the revision stands for now; the library alone might fall back on whatever it has kept of others."""
    import datasets
    from huggingface_hub import HfApi, constants

    constants.HF_HUB_DISABLE_TELEMETRY = True  # otherwise each request tells the hub what is installed here
    datasets.disable_progress_bars()
    hub = HfApi(token=token)
    commit: str = hub.dataset_info(address.repository, revision=address.revision).sha or ""
    _check_cards(hub, address.repository, commit)
    loaded = datasets.load_dataset(address.repository, name=address.config, split=address.split, revision=commit, token=token)
    if not all(commit in Path(kept["filename"]).parts for kept in loaded.cache_files):
        raise ConnectionError(address.repository)
    return loaded


def _check_cards(hub: Any, repository: str, commit: str) -> None:
    """Before the library reads what they name. Raises DataInvalid."""
    listed = {entry.path: entry.size for entry in hub.get_paths_info(repository, list(CARDS), repo_type="dataset", revision=commit)}
    for file, size in listed.items():
        if size > LARGEST:
            raise DataInvalid(f"{repository}: its card ({file}) has {size:,} bytes", "shorten the card on the hub", code="file_broken")
        path = hub.hf_hub_download(repository, file, repo_type="dataset", revision=commit)
        check_card(repository, file, Path(path).read_text(encoding="utf-8", errors="replace"))


def _label_name(feature: Any, value: Any) -> Any:
    """The name of a label that is stored as its number; -1 stands for a label that is not told."""
    if feature is None or value is None:
        return value
    return feature.int2str(value) if value >= 0 else None


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What the library says, as an error of ours."""
    try:
        import datasets
        from huggingface_hub import errors as hub
    except ImportError as error:
        raise missing_package("datasets", "data sets of the hub") from error
    try:
        yield
    except (datasets.exceptions.DatasetNotFoundError, hub.RepositoryNotFoundError, hub.RevisionNotFoundError) as error:
        hint = "check owner, name and revision; what is private or gated needs the owner's leave and a token in HF_TOKEN"
        raise DataInvalid(f"{name}: the hub has no such data set", hint, code="file_missing") from error
    except _no_answer() as error:
        hint = "check the network and HF_ENDPOINT (HF_HUB_OFFLINE must not be set), or name local files"
        raise Unavailable(f"{name}: the hub cannot be reached", hint, code="hub_unreachable") from error
    except FileNotFoundError as error:
        raise DataInvalid(
            f"{name}: the data set has no files that are rows", "check the data set's page on the hub", code="file_missing"
        ) from error
    except (ValueError, datasets.exceptions.DatasetsError) as error:
        hint = "check the configuration and the split: hf://datasets/OWNER/NAME:CONFIG/SPLIT (its page on the hub lists them)"
        raise DataInvalid(f"{name}: the data set has no such rows, or they cannot be read", hint, code="file_broken") from error
    except OSError as error:
        raise Unavailable(f"{name}: cannot be read ({type(error).__name__})", "try again later", code="hub_unreachable") from error


def _no_answer() -> tuple[type[Exception], ...]:
    """What says that the hub was not asked, or did not answer: the libraries speak through httpx, or through the httpx2 that follows it."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    clients = (sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules)
    return (ConnectionError, LocalEntryNotFoundError, *(client.HTTPError for client in clients))
