"""The salted hashes of many lines, worked out beside what this process does meanwhile.

In: lines one after the other, a salt. Out: HMAC-SHA-256 (RFC 2104) of each. Must not know: what the lines say; anything but the standard
library, so that the other process is there at once.

The lines and the salt reach the other process through its standard input, and never its arguments.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from threading import Thread

#: Fewer lines than this are hashed at once.
WORTH_A_PROCESS = 50_000
_SALT = 32


def hashes(lines: Iterable[bytes | memoryview], salt: bytes) -> Iterator[bytes]:
    """HMAC-SHA-256 of each line, in less than half of the time that ``hmac`` takes: the salt is hashed once."""
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in salt.ljust(64, b"\0")))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in salt.ljust(64, b"\0")))
    for line in lines:
        hashed, around = inner.copy(), outer.copy()
        hashed.update(line)
        around.update(hashed.digest())
        yield around.digest()


class Hashing:
    """The hashes of the lines in ``data``, each of which has ``lengths`` bytes without its end; begun now, asked for later."""

    def __init__(self, data: bytes, lengths: Sequence[int], salt: bytes) -> None:
        self._data, self._lengths, self._salt = data, array("q", lengths), salt
        self._process = self._begun() if len(lengths) >= WORTH_A_PROCESS else None

    def __enter__(self) -> Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the other process, whether or not anybody asked for its result."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def result(self) -> bytes:
        """The hashes, 32 bytes each. Where the other process could not do it, this one does."""
        found = b""
        if self._process is not None:
            found, self._process = self._process.communicate()[0], None
        if len(found) == 32 * len(self._lengths):
            return found
        return b"".join(hashes(self._lines(), self._salt))

    def _begun(self) -> subprocess.Popen[bytes] | None:
        try:
            process = subprocess.Popen([sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError:
            return None
        Thread(target=self._feed, args=(process,), daemon=True).start()
        return process

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        stream, process.stdin = process.stdin, None
        try:
            with stream:
                stream.write(self._salt + len(self._lengths).to_bytes(8, "big"))
                stream.write(memoryview(self._lengths).cast("B"))
                stream.write(self._data)
        except OSError:
            process.kill()

    def _lines(self) -> Iterator[memoryview]:
        view, reached = memoryview(self._data), 0
        for length in self._lengths:
            yield view[reached : reached + length]
            reached += length + 1


def _main() -> None:
    with open(0, "rb", buffering=1 << 20) as stream:
        salt, count, lengths = stream.read(_SALT), int.from_bytes(stream.read(8), "big"), array("q")
        lengths.frombytes(stream.read(8 * count))
        lines = (memoryview(stream.read(length + 1))[:-1] for length in lengths)
        sys.stdout.buffer.write(b"".join(hashes(lines, salt)))


if __name__ == "__main__":
    _main()
