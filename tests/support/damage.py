"""Bytes that were meant to be of a format, and what reading them may end with: a result or one of our errors, soon, in little memory.

``TAILORBIRD_FUZZ_EXAMPLES`` says how many examples a test tries (``make fuzz`` sets many); by default few, the same each time.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from support.memory import Growth
from tailorbird.domain.errors import TailorbirdError

EXAMPLES = int(os.environ.get("TAILORBIRD_FUZZ_EXAMPLES", "0"))
#: Seconds that one reading may take on a machine however busy, and bytes by which the process may grow meanwhile.
PATIENCE, ROOM = 20.0, 400_000_000

#: What breaks readers: lengths at the edges of their types, quotes, brackets, tags, surrogates, NUL.
TOKENS = (
    b"\x00", b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xfe\xff",
    b'"', b"'", b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b"[" * 3000, b'{"a":' * 2000, b",", b"\n", b"\r", b"\t",
    b"null", b"NaN", b"Infinity", b"-1", b"1e999", b"9" * 5000, b"0x", b"&a *a", b"<<: *a", b"!!python/object/apply:os.system",
    b"%s", b"{{", b"}}", b"{%", b"%}", b"../" * 8, b"PAR1", b"GGUF",
)  # fmt: skip


def tries(few: int) -> settings:
    """How often a test is tried: ``few`` times, always the same; or as often as was asked for, each time others."""
    given = {"deadline": None, "suppress_health_check": list(HealthCheck), "phases": (Phase.explicit, Phase.generate, Phase.shrink)}
    return settings(max_examples=EXAMPLES, **given) if EXAMPLES else settings(max_examples=few, derandomize=True, database=None, **given)


@st.composite
def damaged(draw: st.DrawFn, whole: Sequence[bytes]) -> bytes:
    """One of ``whole``, with a few places overwritten, cut out, repeated, exchanged or cut off; or nothing like it."""
    data = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(data)))
        upto = min(len(data), at + draw(st.sampled_from((0, 1, 2, 4, 8, 16, 64, 1000))))
        how = draw(st.sampled_from(("token", "bytes", "cut", "repeat", "end", "flip")))
        if how == "token":
            data[at:upto] = draw(st.sampled_from(TOKENS))
        elif how == "bytes":
            data[at:upto] = draw(st.binary(max_size=16))
        elif how == "cut":
            del data[at:upto]
        elif how == "repeat":
            data[at:at] = data[at:upto] * draw(st.sampled_from((1, 2, 50)))
        elif how == "end":
            del data[at:]
        elif data and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


def values(leaves: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    """Any value of JSON, with the numbers and the texts that are not expected."""
    plain = (
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(("", "\x00", "\ud800", "1" * 400))
    )
    return st.recursive(
        plain | leaves if leaves is not None else plain,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )


def ends_well(read: Callable[[], object]) -> bool:
    """Reads; True where a result came of it, False where one of our errors did. Anything else is raised: another exception, a reading that
    does not end, one that takes much memory."""
    growth = Growth()
    with _patience():
        refusal = _refusal_of(read)
    assert refusal is None or (refusal.message and refusal.hint)
    assert growth.bytes < ROOM, "reading took much memory"
    return refusal is None


def _refusal_of(read: Callable[[], object]) -> TailorbirdError | None:
    try:
        read()
    except TailorbirdError as error:
        return error
    return None


@contextmanager
def _patience() -> Iterator[None]:
    """Ends what does not end by itself, as far as Python can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError("reading did not end")  # no reader takes it for a limit of its own

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(ValueError):
            signal.signal(signal.SIGALRM, before)
