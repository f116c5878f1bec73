"""Embedding batcher: one thread, up to 32 texts at a time, tenants in turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tailorbird.domain.errors import Exhausted, TailorbirdError, Unavailable
from tailorbird.inference.blocking_call import WAITING, WAITING_EACH, defect, told
from tailorbird.inference.openmp_threads import release_threads
from tailorbird.inference.shared_encoder import EncoderAdapter, SharedEncoder
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.system.exit_order import LAST_STEP, end_before_exit

#: Texts that are embedded together.
_TOGETHER = 32
#: Seconds without a text after which the thread ends; the next text begins another.
_IDLE = 10.0


@dataclass(frozen=True, eq=False)
class EmbeddingRequest:
    """A text, whose text it is, and who is told: a vector (1, width), or an error. ``encoder`` is to read it: that of a folder, or one that
    many share, with the ``adapter`` of the text."""

    tenant: str
    encoder: Path | SharedEncoder
    text: str
    tell: Callable[[Vectors | TailorbirdError], None]
    adapter: EncoderAdapter | None = None


class EmbeddingBatcher:
    """Embeds. Thread-safe; callers are told from its thread."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._changed = threading.Condition()
        self._waiting: list[EmbeddingRequest] = []
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, asked: EmbeddingRequest, *, bounded: bool) -> None:
        """Lets ``asked`` wait for its turn. Raises Unavailable after the end, and Exhausted where ``bounded`` and too many wait."""
        with self._changed:
            if self._closed:
                raise _closing()
            if bounded and (len(self._waiting) >= WAITING or self._of(asked.tenant) >= WAITING_EACH):
                raise Exhausted("too many requests wait for this model", "try again in a second", code="engine_busy")
            self._waiting.append(asked)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="vectors", daemon=True)
                end_before_exit(self)
                self._thread.start()
            self._changed.notify_all()

    def drop(self, asked: EmbeddingRequest) -> bool:
        """Nobody wants this vector any more. False where its turn has come: it is told all the same."""
        with self._changed:
            if asked not in self._waiting:
                return False
            self._waiting.remove(asked)
            return True

    def close(self) -> None:
        """Fails all waiting requests."""
        with self._changed:
            self._closed = True
            left, self._waiting = self._waiting, []
            self._changed.notify_all()
        for asked in left:
            _tell(asked, _closing())

    def end(self) -> None:
        """As ``close``, and waits until what is embedded now is over."""
        thread = self._thread
        self.close()
        if thread is not None:
            thread.join(LAST_STEP)

    def _of(self, tenant: str) -> int:
        return sum(waiting.tenant == tenant for waiting in self._waiting)

    def _run(self) -> None:
        while together := self._next():
            embedded = self._embed(together)
            release_threads()
            for asked, one in zip(together, embedded, strict=True):
                _tell(asked, one)

    def _embed(self, together: list[EmbeddingRequest]) -> list[Vectors | TailorbirdError]:
        """A vector each, or why there is none. Where they cannot be embedded at once, each is tried alone: the text that fails must not
        fail those beside it."""
        encoder, texts = together[0].encoder, [asked.text for asked in together]
        try:
            if isinstance(encoder, SharedEncoder):
                vectors = encoder.embed(texts, [asked.adapter for asked in together if asked.adapter])
            else:
                vectors = self._encoder.embed(encoder, texts)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must not end the thread
            if len(together) > 1:
                return [found for asked in together for found in self._embed([asked])]
            return [told(error)]
        return [vectors[place : place + 1] for place in range(len(together))]

    def _next(self) -> list[EmbeddingRequest]:
        """What is embedded next, by the encoder of who has waited longest; nothing, and the thread is over, after a while without work."""
        with self._changed:
            if not self._waiting and not self._closed:
                self._changed.wait_for(lambda: self._waiting or self._closed, _IDLE)
            together = _in_turn(self._waiting)[:_TOGETHER]
            self._waiting = [asked for asked in self._waiting if asked not in together]
            if not together:
                self._thread = None
            return together


def _in_turn(waiting: list[EmbeddingRequest]) -> list[EmbeddingRequest]:
    """Those who ask the encoder of the first, one of each tenant in turn; within a tenant in the order of asking."""
    by_tenant: dict[str, list[EmbeddingRequest]] = {}
    for asked in waiting:
        if asked.encoder == waiting[0].encoder:
            by_tenant.setdefault(asked.tenant, []).append(asked)
    return [asked for turn in zip_longest(*by_tenant.values()) for asked in turn if asked is not None]


def _tell(asked: EmbeddingRequest, found: Vectors | TailorbirdError) -> None:
    try:
        asked.tell(found)
    except Exception as error:  # noqa: BLE001 - whoever cannot be told must not keep others from it
        defect(error)


def _closing() -> Unavailable:
    return Unavailable("the engine is being closed", "try again in a few seconds", code="engine_closed")
