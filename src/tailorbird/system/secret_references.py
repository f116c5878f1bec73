"""Secrets by reference: ``env:NAME`` or ``file:PATH``, read when they are needed."""

from __future__ import annotations

import os
from pathlib import Path

from tailorbird.domain.errors import Unavailable

#: Bytes of a file that a secret may have.
_MOST = 64 << 10


def read_secret(name: str, references: dict[str, str], folder: Path) -> str:
    """The secret that ``references`` know as ``name``; paths are relative to ``folder``. Raises Unavailable (``endpoint_key_missing``)."""
    kind, _, place = references.get(name, "").partition(":")
    secret = os.environ.get(place, "") if kind == "env" else _from_file(folder / Path(place).expanduser()) if kind == "file" else ""
    if not secret.strip() or not secret.strip().isprintable() or not secret.isascii():
        raise Unavailable(
            f"the key {name} of an endpoint is not to be had on this machine",
            f"say where it is in settings.yaml: endpoint_keys: {{{name}: 'env:NAME'}} or 'file:PATH', and set it there",
            code="endpoint_key_missing",
        )
    return secret.strip()


def _from_file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_MOST)
    except (OSError, UnicodeDecodeError):
        return ""
