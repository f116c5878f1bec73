"""What a long run has found so far, kept in a folder: a run that was broken off, or is done in several sittings, goes on where it was.

In: results by the name of what they are about. Out: the same results, later. A folder belongs to the commit that it was begun with; another
one is refused, because its results would not be about one program. Must not know: what is measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Sittings:
    """Results by name, one a line of ``results.jsonl``; a line that was broken off half-way counts as not written."""

    def __init__(self, folder: Path, commit: str) -> None:
        self.folder = folder
        self._path = folder / "results.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.results = dict(self._read())
        begun = self.results.setdefault("commit", commit)
        if begun != commit:
            raise SystemExit(f"{folder} was begun at commit {begun}, and this is {commit}: go back to that one, or take another folder")
        if not self._path.exists():
            self.put("commit", commit)

    def put(self, name: str, result: Any) -> None:
        """Keeps a result."""
        self.results[name] = result
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, result]) + "\n")

    def _read(self) -> list[tuple[str, Any]]:
        lines = self._path.read_text(encoding="utf-8").splitlines(keepends=True) if self._path.exists() else []
        return [(name, result) for name, result in (json.loads(line) for line in lines if line.endswith("\n"))]
