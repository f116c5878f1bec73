"""Files on the disk: their digest, and the moment from which nothing takes them away.

In: paths, open files. Out: digests; what was written is on the disk. Must not know: what files hold.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import IO, Any

from tailorbird.domain.value import Digest


def digest_file(path: Path) -> Digest:
    """``sha256:<hex>`` of a file's bytes, which are read in blocks. Raises OSError."""
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def flush(file: IO[Any]) -> None:
    """Waits until everything written to ``file`` is on the disk. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())


def flush_path(path: Path) -> None:
    """Waits until the file at ``path``, or a folder's list of names, is on the disk, where the system can. Raises OSError."""
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
