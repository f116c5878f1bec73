"""The user's cache folder, where there is one: a process in a container may have no home, or one that is somebody else's."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path | None:
    """Our folder below ``XDG_CACHE_HOME``, where that is an absolute path, else below ``~/.cache``; None where the user has no home."""
    named, home = os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~")  # noqa: PTH111 - pathlib raises where there is none
    if Path(named).is_absolute():
        return Path(named, "tailorbird")
    return Path(home, ".cache", "tailorbird") if Path(home).is_absolute() else None


def can_be_made(folder: Path) -> bool:
    """True where ``folder`` is there and may be written, or may be made. One that may not even be looked at may not."""
    there = next((place for place in (folder, *folder.parents) if os.path.exists(place)), None)  # noqa: PTH110 - pathlib raises there
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
