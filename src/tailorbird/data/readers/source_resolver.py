"""Source resolver: a path, folder, address or hub data set opened as a local data file."""

from __future__ import annotations

import os
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from tailorbird.data.readers.confined_reader import READERS
from tailorbird.data.readers.data_file import DataFile, open_file
from tailorbird.data.readers.hub import PREFIX, fetch_rows
from tailorbird.data.readers.packed_file import is_packed, unpacked
from tailorbird.data.readers.text_files import FOLDER, open_folder
from tailorbird.domain.allowed_places import ANONYMOUS, OF_WORKER, parse_address
from tailorbird.domain.errors import DataInvalid, Forbidden, Unavailable
from tailorbird.domain.objective import DataSource
from tailorbird.system.files import private_folder
from tailorbird.system.outward_access import AccessGrant, grant_for, is_bounded, public_address_of

#: Redirects that are followed at most.
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
#: Seconds for all of a file; for a connection, and for the next bytes.
_LONGEST = 3600.0
_PATIENCE = {"connect": 10.0, "read": 60.0, "write": 10.0, "pool": 10.0}


class _Checked(httpcore.NetworkBackend):
    """Connects to addresses of the public internet alone."""

    def __init__(self) -> None:
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolves, checks, connects: one look at the name server. Raises Forbidden."""
        return self._plain.connect_tcp(public_address_of(host, port), port, timeout, local_address, socket_options)


def download(name: str, target: Path) -> None:
    """What lies at ``name``, written to ``target``.

    Raises Forbidden (a private address, a redirect to no place), DataInvalid (nothing there), OSError (no answer).
    """
    context = ssl.create_default_context()
    with _transport_errors(), httpcore.ConnectionPool(ssl_context=context, network_backend=_Checked()) as pool:
        address = name
        for _ in range(_MOST_REDIRECTS + 1):
            with pool.stream("GET", address, headers=_headers(address), extensions={"timeout": _PATIENCE}) as answer:
                if answer.status not in _REDIRECTS:
                    _save(name, answer, target)
                    return
                address = _next(address, answer)
    raise Unavailable(f"{name}: redirected more than {_MOST_REDIRECTS} times", "name the file's own address", code="data_unreachable")


def _headers(address: str) -> list[tuple[str, str]]:
    """Those of the credential of the place that covers this very address. Raises Forbidden where none does."""
    grant = grant_for(address)
    extra = dict(grant.options.get("headers", {})) if grant else {}
    return [("host", urlsplit(address).netloc), ("user-agent", "tailorbird"), ("accept-encoding", "identity"), *extra.items()]


def _next(address: str, answer: httpcore.Response) -> str:
    """Where a redirect leads. Whether that may be read is asked before anything goes there. Raises Unavailable."""
    for key, value in answer.headers:
        if key.lower() == b"location":
            return urljoin(address, value.decode("latin-1"))
    raise Unavailable(f"{address}: a redirect to nowhere", "check the address", code="data_unreachable")


def _save(name: str, answer: httpcore.Response, target: Path) -> None:
    if answer.status in (404, 410):
        raise DataInvalid(f"{name}: there is no such file", "check the address", code="file_missing")
    if answer.status != 200:
        raise Unavailable(f"{name}: the server answers {answer.status}", "check the address and its access", code="data_unreachable")
    started = time.monotonic()
    with target.open("wb") as out:
        for piece in answer.iter_stream():
            out.write(piece)
            if time.monotonic() - started > _LONGEST:
                raise Unavailable(f"{name}: not whole after {_LONGEST:.0f} s", "upload the file", code="data_unreachable")


@contextmanager
def _transport_errors() -> Iterator[None]:
    """What the transport says, as an error of the operating system."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, ssl.SSLError) as error:
        raise ConnectionError(type(error).__name__) from error


#: Storages that are read. ``file`` and ``http`` are not among them: a path says the first, and nobody vouches for what the second brings.
PROTOCOLS = ("s3", "gs", "gcs", "az", "abfs", "abfss", "https", "memory")

#: Where ``container@account`` is the form of an address, not a name with a host.
_CONTAINER_FIRST = ("az", "abfs", "abfss")

#: Errors that clients raise outside of OSError, by the module that must have been loaded for them to occur.
_FOREIGN = (
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
)


def fetch(name: str, workspace: Path, *, folder: bool) -> Path:
    """What lies at the address ``name``, copied into ``workspace``: one file, or every file below it where it is a ``folder``.

    Raises DataInvalid (address that is not taken, nothing there), Forbidden (submitted work, and no place of its tenant covers the
    address), Unavailable (no client installed, no access, no network).
    """
    check_address(name)
    grant, target = grant_for(name), workspace / "data"
    if grant is not None and parse_address(name).kind == "https":
        if folder:
            raise DataInvalid(f"{name}: a folder is not read over https", "name each file", code="address_folder")
        with _explained(name):
            download(name, target)
        return target
    with _explained(name):
        from fsspec.core import url_to_fs

        system, path = url_to_fs(name, **_options(name, grant))
        if not folder:
            _copy(system, path, target)
            return target
        root = PurePosixPath(path)
        for found in system.find(path):
            inside = PurePosixPath(found).relative_to(root)
            if ".." not in inside.parts:
                private_folder((target / inside).parent)
                _copy(system, found, target / inside)
        if not target.exists():
            raise FileNotFoundError(name)
        return target


def check_address(name: str) -> None:
    """Raises DataInvalid when ``name`` has a protocol that is not read, or carries credentials or a query."""
    protocol = name.partition("://")[0].lower()
    if protocol not in PROTOCOLS:
        hint = f"write a path as it is, hf://datasets/OWNER/NAME, or an address that begins with one of: {', '.join(PROTOCOLS)}"
        raise DataInvalid(f"{name.partition('://')[0][:40]}://: data is not read from there", hint, code="address_protocol")
    parts = urlsplit(name)
    before = parts.netloc.rpartition("@")[0]
    if ":" in before or (before and protocol not in _CONTAINER_FIRST) or parts.query:
        hint = "give credentials in the environment, as the storage's own client takes them, and a plain address here"
        raise DataInvalid("an address of data carries credentials or a query", hint, code="address_credentials")


#: What makes each storage's client use no credential.
_WITHOUT: dict[str, dict[str, Any]] = {"s3": {"anon": True}, "gs": {"token": "anon"}}
#: What Azure's client takes from the environment before what it is given.
_AZURE = "AZURE_STORAGE_CONNECTION_STRING"


def _options(name: str, grant: AccessGrant | None) -> dict[str, Any]:
    """Options for the client that have it use the credential of the grant, and none that it finds around it. Raises Unavailable."""
    if grant is None or grant.credential == OF_WORKER:
        return {}
    kind = parse_address(name).kind
    if kind == "az" and (grant.credential == ANONYMOUS or (os.environ.get(_AZURE) and "connection_string" not in grant.options)):
        raise Unavailable(
            f"{name}: Azure's client would take the worker's own credential",
            f"have an admin name a credential for the place, with a connection_string, or start the worker without {_AZURE}",
            code="credential_mixed",
        )
    return dict(_WITHOUT[kind] if grant.credential == ANONYMOUS else grant.options)


def _copy(system: Any, source: str, target: Path) -> None:
    with system.open(source, "rb") as stream, target.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What a client says, as an error of ours."""
    try:
        yield
    except ImportError as error:
        raise Unavailable(f"{name}: the client of this storage is not installed", _install_hint(name), code="package_missing") from error
    except FileNotFoundError as error:
        raise DataInvalid(f"{name}: there is no such file", "check the address", code="file_missing") from error
    except _client_errors() as error:
        hint = "check the address, the network, and the credentials in the environment"
        raise Unavailable(f"{name}: cannot be read ({type(error).__name__})", hint, code="data_unreachable") from error


def _client_errors() -> tuple[type[Exception], ...]:
    return (OSError, ValueError, *(getattr(sys.modules[module], kind) for module, kind in _FOREIGN if module in sys.modules))


def _install_hint(name: str) -> str:
    packages = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "https": "aiohttp"}
    return f"pip install {packages.get(name.partition('://')[0].lower(), 'adlfs')}"


def columns_of(source: DataSource, split_by: str = "") -> dict[str, str]:
    """The columns that a source names, by the key under which it names them; and the one that all rows are split by."""
    text, label = _keyed("text", source.text), _keyed("label", source.label)
    content = {"messages": source.messages, "tools": source.tools or ""} if source.messages else {**text, **label}
    if source.out_of_scope:
        content = text
    if source.qrels:
        content = {"id": source.id, **text}
    terms = {f"terms.{key}": column for key, column in source.terms}
    more = {"subject": source.subject, "split_column": source.split_column, "split.by": split_by}
    return {key: column for key, column in {**content, **more, **terms}.items() if column}


def _keyed(key: str, columns: str | tuple[str, ...]) -> dict[str, str]:
    """One column by its key, several by the key and their places."""
    return {key: columns} if isinstance(columns, str) else {f"{key}.{place}": column for place, column in enumerate(columns)}


_RELATIVE = "paths are relative to the folder of the objective file"
_SHEET = "save the sheet as 'CSV UTF-8' (in a spreadsheet: Save As, or Export): the first line names the columns, a row a line"
_PACKED = "unpack it, and give {readable}"
_LINES = "give {readable}: a .csv with a line of column names (text,label), a folder LABEL/NAME.txt for whole texts"
_TABLE = "write it as Parquet, where it was made (pandas: to_parquet('rows.parquet'); pyarrow: parquet.write_table)"
_TEXTS = "take the texts out of it: a .csv with a line of column names (text,label), or a folder LABEL/NAME.txt"
#: What to do with other kinds of file that often hold data.
_OTHERWISE = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), _SHEET),
    **dict.fromkeys((".bz2", ".xz", ".zst", ".tar", ".tgz", ".7z", ".rar"), _PACKED),
    **dict.fromkeys((".txt", ".md", ".log"), _LINES),
    **dict.fromkeys((".arrow", ".feather", ".orc", ".avro", ".pkl", ".pickle", ".npz", ".dta", ".sav", ".rds"), _TABLE),
    **dict.fromkeys((".pdf", ".docx", ".doc", ".rtf", ".odt", ".html", ".htm", ".xml", ".eml", ".mbox"), _TEXTS),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "export the table as CSV"),
    **dict.fromkeys((".ndjson", ".jsonlines", ".jl"), "rename it so that it ends in .jsonl"),
    ".pq": "rename it so that it ends in .parquet",
}


@contextmanager
def open_source(source: DataSource, folder: Path, split_by: str = "") -> Iterator[DataFile]:
    """The file of ``source``, as ``open_path``, with what the source says of its letters and separators."""
    with open_path(source.path, columns_of(source, split_by).values(), folder) as file:
        yield replace(file, encoding=source.encoding, separator=source.separator)


@contextmanager
def open_path(name: str, wanted: Collection[str], folder: Path) -> Iterator[DataFile]:
    """The file called ``name``: what is not on this machine is there until the end of the ``with`` block.

    Of a data set on the hub only the ``wanted`` columns are fetched. Raises DataInvalid (kind of file that is not read, nothing there),
    Unavailable (storage, hub or package cannot be reached).
    """
    if "://" not in name:
        with _local(name, folder / name) as file:
            yield file
        return
    with tempfile.TemporaryDirectory(prefix="tailorbird-") as workspace, _fetched(name, wanted, Path(workspace)) as file:
        yield file


def _local(name: str, path: Path) -> AbstractContextManager[DataFile]:
    if is_bounded() and (Path(name).is_absolute() or ".." in Path(name).parts):
        raise Forbidden(f"{name} did not come with the objective", "upload it", code="upload_missing")
    if not path.exists():
        pattern = any(mark in name for mark in "*?[")
        hint = "name each file as a source of its own: patterns are not expanded" if pattern else _RELATIVE
        raise DataInvalid(f"{name}: there is no such file", hint, code="file_missing")
    return open_folder(name, path) if path.is_dir() else _opened(name, path)


@contextmanager
def _opened(name: str, path: Path) -> Iterator[DataFile]:
    """A file, or what is packed in it; the digest is that of its own bytes."""
    packed = PurePosixPath(name).suffix.lower()
    if not is_packed(name):
        with open_file(name, path, _kind(name)) as file:
            yield file
        return
    _check_packed(name)
    with open_file(name, path, packed) as file, unpacked(name, path, packed) as (place, suffix):
        kind = _kind(f"{name}/*{suffix}") if packed == ".zip" else _kind(name[: -len(packed)])
        yield replace(file, path=place, kind=kind, packed=path.stat().st_size)


def _check_packed(name: str) -> None:
    """Raises DataInvalid where the name tells that what is packed cannot be read."""
    if name.lower().endswith(".gz"):
        _kind(name[: -len(".gz")])


def _fetched(name: str, wanted: Collection[str], workspace: Path) -> AbstractContextManager[DataFile]:
    if name.startswith(PREFIX):
        return open_file(name, fetch_rows(name, wanted, workspace), ".jsonl")
    check_address(name)
    if not PurePosixPath(name).suffix:
        return open_folder(name, fetch(name, workspace, folder=True))
    if is_packed(name):
        _check_packed(name)
    else:
        _kind(name)
    return _opened(name, fetch(name, workspace, folder=False))


def _kind(name: str) -> str:
    kind = PurePosixPath(name).suffix.lower()
    if kind not in READERS:
        suffixes = ", ".join(suffix for suffix in READERS if suffix != FOLDER)
        readable = f"a file that ends in {suffixes} (or that and .gz, or one in a .zip), or a folder of .txt files"
        hint = _OTHERWISE.get(kind, "give {readable}").format(readable=readable)
        raise DataInvalid(f"{name}: a kind of file that cannot be read", hint, code="file_kind")
    return kind
