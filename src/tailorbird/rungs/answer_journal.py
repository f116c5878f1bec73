"""Journal of answers: what an engine answered, kept in a folder, so that a kill repeats at most one batch."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailorbird.crypto.sealed_stream import seal_bytes, unseal_bytes
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.value import Digest
from tailorbird.system.files import flush, private_folder

_CONTEXT = "answer journal, line"


class AnswerJournal:
    """Answers by key, one line of the file a batch. ``origin`` names what they are from: a journal of another origin is begun anew, and
    one that ends in half a line, or in a line that was changed, goes on before it. ``seal_key`` (32 bytes in hexadecimal digits) encrypts
    each line for its place; empty: they are in the clear."""

    def __init__(self, path: Path, origin: Digest, seal_key: str = "") -> None:
        self._path, self._key = path, bytes.fromhex(seal_key)
        self._lines, self._answers = 0, dict[str, Any]()
        private_folder(path.parent)
        whole = self._read(origin)
        with path.open("ab") as file:
            file.truncate(whole)
        if not self._lines:
            self._append({"origin": origin})

    def get(self, key: str) -> Any | None:
        """The answer under ``key``, as it was put; None where there is none."""
        return self._answers.get(key)

    def put(self, answers: Mapping[str, Any]) -> None:
        """Adds a batch of answers, JSON values, and returns once it is on the disk. Raises OSError."""
        self._append(dict(answers))
        self._answers |= answers

    def _read(self, origin: Digest) -> int:
        """Takes in the lines that are whole; how many bytes they have."""
        whole = 0
        for line in self._path.read_bytes().splitlines(keepends=True) if self._path.is_file() else ():
            found = self._opened(line)
            if found is None or (not self._lines and found != {"origin": origin}):
                break
            if self._lines:
                self._answers |= found
            self._lines += 1
            whole += len(line)
        return whole

    def _opened(self, line: bytes) -> dict[str, Any] | None:
        if not line.endswith(b"\n"):
            return None
        try:
            plain = unseal_bytes(base64.b64decode(line), self._key, self._place()) if self._key else line
            found = json.loads(plain)
        except (ValueError, Corrupt):
            return None
        return found if isinstance(found, dict) else None

    def _append(self, told: Mapping[str, Any]) -> None:
        plain = json.dumps(told).encode()
        line = base64.b64encode(seal_bytes(plain, self._key, self._place())) if self._key else plain
        with self._path.open("ab") as file:
            file.write(line + b"\n")
            flush(file)
        self._lines += 1

    def _place(self) -> bytes:
        return f"{_CONTEXT} {self._lines}".encode()
