"""Data behind an address: ``s3://bucket/messages.csv``, ``https://...``, or a folder ``gs://bucket/reviews/``.

In: an address. Out: its bytes on this machine, for as long as they are read. Must not know: formats.

Credentials come from the environment, as each storage's own client takes them, never from the address: that stands in records and reports.
Submitted work is read with the credential of the place that covers the address, and at ``https://`` from the public internet alone
(``web.py``).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tailorbird.data.reading.web import download
from tailorbird.domain.errors import DataInvalid, Unavailable
from tailorbird.domain.place import ANONYMOUS, OF_WORKER, parse_address
from tailorbird.foundations.disk import private_folder
from tailorbird.foundations.reach import Grant, grant_for

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


def _options(name: str, grant: Grant | None) -> dict[str, Any]:
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
