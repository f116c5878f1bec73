"""Source resolver: a path, folder, address or hub data set opened as a local data file."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.data.readers.data_file import FOLDER, DataFile, open_file, open_folder, unpacked
from tailorbird.data.readers.formats import READERS
from tailorbird.domain.endpoint import ANONYMOUS, OF_WORKER, parse_address
from tailorbird.domain.errors import DataInvalid, Forbidden, Unavailable
from tailorbird.domain.objective import DataSource
from tailorbird.system.files import digest_file, private_folder
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
    ("httpx", "HTTPError"),
    ("httpx2", "HTTPError"),
)


def fetch(name: str, workspace: Path, *, folder: bool) -> Path:
    """Copies what lies at the address ``name`` into ``workspace``: one file, or every file below it where it is a ``folder``.

    Raises DataInvalid (address that is not taken, nothing there), Forbidden (submitted work, and no place of its tenant covers the
    address), Unavailable (no client installed, no access, no network).
    """
    check_address(name)
    grant, target = grant_for(name), workspace / "data"
    with _explained(name):
        if grant is not None and parse_address(name).kind == "https":
            if folder:
                raise DataInvalid(f"{name}: a folder is not read over https", "name each file")
            download(name, target)
            return target
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


_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
#: A data set of the hub: a split of its Parquet conversion, or one file at a revision.
_HUB = re.compile(
    rf"hf://(?P<repository>datasets/{_PART}/{_PART})"
    rf"(?:(?::(?P<config>{_PART})/(?P<split>{_PART}))?|(?P<revision>@{_PART})?(?P<file>(?:/{_PART})*/{_PART}\.\w+))"
)
#: The branch where the hub keeps each public data set as Parquet files, ``CONFIG/SPLIT/NUMBER.parquet``.
_CONVERTED = "@refs/convert/parquet"


def _fetch_from_hub(name: str, workspace: Path) -> AbstractContextManager[DataFile]:
    """Opens a data set of the hub, or one of its files, that is copied into ``workspace``. No script or card of it is read.

    Raises as ``fetch``.
    """
    address = _HUB.fullmatch(name)
    if address is None:
        hint = "write hf://datasets/OWNER/NAME, with :CONFIG/SPLIT where needed, or hf://datasets/OWNER/NAME@REVISION/PATH for one file"
        raise DataInvalid(f"{name[:200]}: not the address of a data set on the hub", hint)
    repository, grant, target = address["repository"], grant_for(name), workspace / "data"
    with _explained(name):
        from huggingface_hub import HfFileSystem, constants

        constants.HF_HUB_DISABLE_TELEMETRY = True  # otherwise each request tells the hub what is installed here
        system: Any = HfFileSystem(**_options(name, grant), skip_instance_cache=True)
        if address["file"]:
            _copy(system, f"{repository}{address['revision'] or ''}{address['file']}", target)
            return _open_file(name, target)
        root, config, split = f"{repository}{_CONVERTED}", address["config"], address["split"] or "train"
        if config is None:
            configs = sorted(PurePosixPath(entry["name"]).name for entry in system.ls(root) if entry["type"] == "directory")
            config = "default" if "default" in configs or not configs else configs[0]
            if config != "default" and len(configs) > 1:
                hint = f"name one: hf://{repository}:CONFIG/{split}; it has {', '.join(configs[:30])}"
                raise DataInvalid(f"{name}: a data set of several configurations", hint)
        parts = [path for path in sorted(system.ls(f"{root}/{config}/{split}", detail=False)) if path.endswith(".parquet")]
        for number, path in enumerate(parts):
            private_folder(target)
            _copy(system, path, target / f"{number:05}.parquet")
        if not parts:
            raise FileNotFoundError(name)
    digests = {part.name: digest_file(part) for part in sorted(target.iterdir())}
    return nullcontext(DataFile(name, target, digest_of(digests), ".parquet"))


def check_address(name: str) -> None:
    """Raises DataInvalid when ``name`` has a protocol that is not read, or carries credentials or a query."""
    protocol = name.partition("://")[0].lower()
    if protocol not in PROTOCOLS:
        hint = f"write a path as it is, hf://datasets/OWNER/NAME, or an address that begins with one of: {', '.join(PROTOCOLS)}"
        raise DataInvalid(f"{name.partition('://')[0][:40]}://: data is not read from there", hint)
    parts = urlsplit(name)
    before = parts.netloc.rpartition("@")[0]
    if ":" in before or (before and protocol not in _CONTAINER_FIRST) or parts.query:
        hint = "give credentials in the environment, as the storage's own client takes them, and a plain address here"
        raise DataInvalid("an address of data carries credentials or a query", hint)


#: What makes each storage's client use no credential.
_WITHOUT: dict[str, dict[str, Any]] = {"s3": {"anon": True}, "gs": {"token": "anon"}, "hf": {"token": False}}
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
    if grant.credential == ANONYMOUS:
        return _WITHOUT[kind]
    return {
        **(_WITHOUT[kind] if kind == "hf" else {}),
        **grant.options,
    }  # the hub's client takes the environment's token where it gets none


def _copy(system: Any, source: str, target: Path) -> None:
    with system.open(source, "rb") as stream, target.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What a client says, as an error of ours."""
    try:
        yield
    except ImportError as error:
        packages = {"hf": "huggingface_hub", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "https": "aiohttp"}
        raise Unavailable(
            f"{name}: the client of this storage is not installed",
            f"pip install {packages.get(name.partition('://')[0].lower(), 'adlfs')}",
            code="package_missing",
        ) from error
    except FileNotFoundError as error:
        hint = (
            "check the address; of a data set of the hub without a Parquet conversion, name a file"
            if name.startswith("hf:")
            else "check the address"
        )
        raise DataInvalid(f"{name}: there is no such file", hint, code="file_missing") from error
    except _client_errors() as error:
        hint = "check the address, the network (HF_HUB_OFFLINE must not be set for the hub), and the credentials in the environment"
        raise Unavailable(f"{name}: cannot be read ({type(error).__name__})", hint, code="data_unreachable") from error


def _client_errors() -> tuple[type[Exception], ...]:
    return (OSError, ValueError, *(getattr(sys.modules[module], kind) for module, kind in _FOREIGN if module in sys.modules))


@contextmanager
def open_source(source: DataSource, folder: Path) -> Iterator[DataFile]:
    """Opens the file of ``source``, as ``open_path``, with the encoding and the separator that the source names."""
    with open_path(source.path, folder) as file:
        yield replace(file, encoding=source.encoding, separator=source.separator)


@contextmanager
def open_path(name: str, folder: Path) -> Iterator[DataFile]:
    """Opens the file called ``name``; what was fetched from another machine is removed at the end of the ``with`` block.

    Raises DataInvalid (kind of file that is not read, nothing there), Unavailable (storage, hub or package cannot be reached).
    """
    if "://" in name:
        with tempfile.TemporaryDirectory(prefix="tailorbird-") as workspace, _open_fetched(name, Path(workspace)) as file:
            yield file
        return
    path = folder / name
    if is_bounded() and (Path(name).is_absolute() or ".." in Path(name).parts):
        raise Forbidden(f"{name} did not come with the objective", "upload it", code="upload_missing")
    if not path.exists():
        hint = "paths are relative to the folder of the objective file, and patterns are not expanded"
        raise DataInvalid(f"{name}: there is no such file", hint, code="file_missing")
    with open_folder(name, path) if path.is_dir() else _open_file(name, path) as file:
        yield file


def _open_fetched(name: str, workspace: Path) -> AbstractContextManager[DataFile]:
    if name.startswith("hf://"):
        return _fetch_from_hub(name, workspace)
    check_address(name)
    if not PurePosixPath(name).suffix:
        return open_folder(name, fetch(name, workspace, folder=True))
    _kind(name)  # before anything is fetched
    return _open_file(name, fetch(name, workspace, folder=False))


@contextmanager
def _open_file(name: str, path: Path) -> Iterator[DataFile]:
    """Opens a file, compressed or not; the digest is that of its own bytes."""
    with open_file(name, path, _kind(name)) as file:
        if not name.lower().endswith(".gz"):
            yield file
            return
        with unpacked(name, path) as place:
            yield replace(file, path=place, packed=path.stat().st_size)


def _kind(name: str) -> str:
    """The format of a file, by the suffix of its name before ``.gz``. Raises DataInvalid."""
    kind = PurePosixPath(name[:-3] if name.lower().endswith(".gz") else name).suffix.lower()
    if kind not in READERS:
        suffixes = ", ".join(suffix for suffix in READERS if suffix != FOLDER)
        hint = f"write the rows as a file that ends in {suffixes} (or that and .gz), or a text a file in a folder, LABEL/NAME.txt"
        raise DataInvalid(f"{name}: a kind of file that cannot be read", hint, code="file_kind")
    return kind
