"""Signed notes that a witness keeps, from a file or a URL."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx

from tailorbird.domain.errors import InvalidInput, NotFound, Unavailable
from tailorbird.system.outward_access import outward_client

#: So many of the newest are compared.
_MOST = 500
_NOTE = re.compile(r"[^\n]+\n\d+\n[A-Za-z0-9+/]{43}=\n(?:[^\n]+\n)*\n(?:\u2014 [^\n]+\n)+")


def read_notes(place: str) -> tuple[str, ...]:
    """The newest notes at a file or URL: C2SP notes as they are, or a JSON object with a ``note`` on each line.

    Raises NotFound, Unavailable, InvalidInput where there are none.
    """
    text = _fetched(place) if place.startswith(("https://", "http://")) else _read(Path(place))
    notes = _of_lines(text) or tuple(_NOTE.findall(text))
    if not notes:
        raise InvalidInput(f"{place} holds no checkpoint", "name what the setting checkpoints or a witness wrote", code="witness_empty")
    return notes[-_MOST:]


def _of_lines(text: str) -> tuple[str, ...]:
    found = []
    for line in text.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and isinstance(told.get("note"), str):
            found.append(told["note"])
    return tuple(found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise NotFound(f"the witness's file {path} cannot be read: {error.strerror}", "name another", code="witness_missing") from None


def _fetched(url: str) -> str:
    try:
        with outward_client(url, timeout=15.0, follow_redirects=False) as client:
            answer = client.get(url)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"the witness cannot be asked: {type(error).__name__}", "check its address, and whether it is up", code="witness_unreachable"
        ) from None
    return answer.text
