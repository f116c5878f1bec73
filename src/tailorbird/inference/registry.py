"""Registry of loaded servables: whose weights are in memory, and which jobs use them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailorbird.chat.tokenizer import ChatTokenizer
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Corrupt, ModelInvalid, NotFound
from tailorbird.domain.value import Digest
from tailorbird.inference.scheduling import salt_of
from tailorbird.inference.text.decoding import Grammars
from tailorbird.inference.text.label_tree import LabelTrees
from tailorbird.ports.engine import Residency
from tailorbird.system.files import digest_folder
from tailorbird.system.threads import stand_back


@dataclass(eq=False)
class Weights:
    """Weights of one folder. ``content`` is None while they are not in memory; ``users`` counts jobs and loads that hold them there.
    ``patient`` ones are read behind what the engine computes meanwhile, ``small`` ones by the thread that wants them: to start others takes
    longer."""

    folder: Path
    read: Callable[[Path], Any]
    patient: bool = False
    small: bool = False
    content: Any = None
    digest: Digest | None = None
    users: int = 0
    holders: int = 0
    used_at: float = 0.0

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return 0 if self.content is None else int(self.content.nbytes)


@dataclass(eq=False)
class Held:
    """A servable and the weights that it needs. ``uses`` counts its jobs; ``leaving`` is set once it is unloaded."""

    servable: Servable
    weights: list[Weights] = field(default_factory=list, kw_only=True)
    pinned: bool = field(default=False, kw_only=True)
    uses: int = field(default=0, kw_only=True)
    leaving: bool = field(default=False, kw_only=True)
    loads: int = field(default=0, kw_only=True)
    evictions: int = field(default=0, kw_only=True)
    requests: int = field(default=0, kw_only=True)
    load_seconds: float = field(default=0.0, kw_only=True)

    @property
    def id(self) -> Digest:
        """Its servable's id."""
        return self.servable.id

    @property
    def is_resident(self) -> bool:
        """True when everything is in memory."""
        return all(weights.content is not None for weights in self.weights)


@dataclass(eq=False)
class Loaded(Held):
    """A servable that a language model answers, loaded."""

    chat: ChatTokenizer
    trees: LabelTrees
    grammars: Grammars
    salt: bytes
    context: int = 0

    @property
    def decoder(self) -> Weights:
        """The base model, or the full weights in its place."""
        return self.weights[0]

    @property
    def adapter(self) -> Any:
        """Adapter of the decoder; None: bare weights."""
        return self.weights[1].content if len(self.weights) > 1 else None


class Registry:
    """Loaded servables by id. Thread-safe; reading files does not hold up anybody who uses what is there.

    ``readers`` read a decoder's folder, and an adapter's for a decoder; ``put_out`` is told before weights are dropped, ``freed`` when a
    servable is gone. ``budget`` is in bytes, and holds for what stands ``beside`` the weights too. ``lock`` guards it; whoever holds that
    must not load or unload.
    """

    def __init__(
        self,
        readers: tuple[Callable[[Path], Any], Callable[[Path, Any], Any]],
        budget: int,
        freed: Callable[[Loaded], None],
        put_out: Callable[[Any], None],
        beside: Callable[[], int] = lambda: 0,
    ) -> None:
        self._read_decoder, self._read_adapter = readers
        self.budget = budget
        self._freed = freed
        self._put_out = put_out
        self._beside = beside
        self._servables: dict[Digest, Loaded] = {}
        #: What no language model answers, and is asked elsewhere.
        self._apart: dict[Digest, Held] = {}
        self._weights: dict[str, Weights] = {}
        self._chats: dict[tuple[str, bool], ChatTokenizer] = {}
        self.lock = threading.RLock()
        self._loading = threading.RLock()
        #: Loads under way, by servable. Guarded by ``lock``.
        self._arriving = Counter[Digest]()

    def load(self, servable: Servable, *, pinned: bool = False) -> None:
        """Reads what a servable needs. Raises ModelInvalid."""
        with self.lock:
            self._arriving[servable.id] += 1
        try:
            with self._loading:
                with self.lock:
                    known = self._servables.get(servable.id)
                    if known is not None:
                        known.pinned = pinned
                        return
                loaded = self._described(servable, pinned)
                with self._kept(loaded, lambda: self._needed(servable)):
                    # Raises ModelInvalid where the tokenizer has tokens that the embedding lacks.
                    highest, rows = loaded.chat.highest_token, loaded.decoder.content.vocabulary
                    if highest >= rows:
                        raise ModelInvalid(
                            f"the tokenizer of {Path(loaded.servable.base).name} gives ids up to {highest:,}, "
                            f"and the model embeds {rows:,} tokens",
                            "fetch model and tokenizer from one place: these do not belong together",
                            code="model_unreadable",
                        )
                with self.lock:
                    loaded.context = loaded.decoder.content.context
                    self._servables[servable.id] = loaded
        finally:
            with self.lock:
                self._arriving[servable.id] -= 1

    def keep(self, held: Held, needed: Callable[[], list[Weights]]) -> None:
        """Reads what is asked elsewhere and shares the budget; ``needed`` asks ``shared`` for its weights. Raises ModelInvalid."""
        with self._loading, self._kept(held, needed), self.lock:
            self._apart[held.id] = held

    def leave(self, held: Held) -> None:
        """As ``unload`` for what was kept."""
        with self.lock:
            if self._apart.pop(held.id, None) is not None:
                held.leaving = True
                self._free_if_idle(held)

    @contextmanager
    def _kept(self, held: Held, needed: Callable[[], list[Weights]]) -> Iterator[None]:
        """Its weights are held and in memory, unless the block raises. They are looked up and held under one lock: the last user's
        ``release`` in between would drop what was found, and it would stand apart from what is counted."""
        with self.lock:
            held.weights = needed()
            for weights in held.weights:
                weights.holders += 1
        try:
            self.bring(held)
            yield
        except BaseException:
            with self.lock:
                self._let_go(held)
            raise

    def bring(self, loaded: Held) -> None:
        """Reads what is not in memory, and puts out what nobody uses to make room. Its weights are held meanwhile: the last user may go,
        and what is read then is counted until it goes, too. Raises ModelInvalid, Corrupt."""
        with self._loading:
            started = time.perf_counter()
            with self.lock:
                if not all(weights.holders for weights in loaded.weights):
                    return  # it was let go of before its turn came
                for weights in loaded.weights:
                    weights.holders += 1
            try:
                missing = [weights for weights in loaded.weights if weights.content is None]
                for weights in missing:
                    self._read(weights)
                with self.lock:
                    for weights in loaded.weights:
                        weights.used_at = time.monotonic()
                    if missing:
                        loaded.loads += 1
                        loaded.load_seconds += time.perf_counter() - started
                    self._make_room(loaded)
            finally:
                with self.lock:
                    self._let_go(loaded)

    def unload(self, servable: Digest) -> None:
        """Takes a servable out of service at once; frees it now or when its last job ends. Waits for no load but its own."""
        with self.lock:
            arriving = self._arriving[servable]
        with self._loading if arriving else nullcontext(), self.lock:
            loaded = self._servables.pop(servable, None)
            if loaded is not None:
                loaded.leaving = True
                self._free_if_idle(loaded)

    def hold(self, servable: Digest) -> Loaded:
        """Holds a servable for one job. Raises NotFound when it is not loaded."""
        with self.lock:
            loaded = self._servables.get(servable)
            if loaded is None:
                raise NotFound("this servable is not loaded", "load it before asking it")
            self.use(loaded)
            return loaded

    def use(self, held: Held) -> bool:
        """Holds for one job what is loaded. True: all of it is in memory, and stays there until ``release``."""
        with self.lock:
            held.uses += 1
            held.requests += 1
            for weights in held.weights:
                weights.users += 1
                weights.used_at = time.monotonic()
            return held.is_resident

    def release(self, loaded: Held) -> None:
        """A job is over."""
        with self.lock:
            loaded.uses -= 1
            for weights in loaded.weights:
                weights.users -= 1
            self._free_if_idle(loaded)

    @contextmanager
    def using(self, servable: Digest) -> Iterator[Loaded]:
        """Holds a servable within the block. Raises as ``hold``."""
        loaded = self.hold(servable)
        try:
            yield loaded
        finally:
            self.release(loaded)

    def ids(self) -> tuple[Digest, ...]:
        """Ids in the order of loading."""
        with self.lock:
            return tuple(self._servables)

    def residencies(self) -> tuple[Residency, ...]:
        """Every servable and its place in memory."""
        with self.lock:
            return tuple(map(_residency, self._every()))

    @property
    def used(self) -> int:
        """Bytes of weights in memory, and of what stands beside them."""
        with self.lock:
            return sum(weights.nbytes for weights in self._weights.values()) + self._beside()

    def chat(self, folder: str, *, thinking: bool = False) -> ChatTokenizer:
        """The chat format of a base model's folder, read once."""
        with self._loading:
            if (folder, thinking) not in self._chats:
                self._chats[folder, thinking] = ChatTokenizer(Path(folder), thinking=thinking)
            return self._chats[folder, thinking]

    def _described(self, servable: Servable, pinned: bool) -> Loaded:
        chat = self.chat(servable.base, thinking=servable.prompt.thinking)
        trees, grammars = LabelTrees(chat), Grammars(chat.tokenizer, chat.stops)
        salt = salt_of(servable.tenant, servable.id)
        return Loaded(servable, chat, trees, grammars, salt, pinned=pinned)

    def _needed(self, servable: Servable) -> list[Weights]:
        decoder = self.shared(servable.weights or servable.base, self._read_decoder)
        if servable.adapter is None:
            return [decoder]
        return [decoder, self.shared(servable.adapter, lambda folder: self._read_adapter(folder, decoder.content), patient=True)]

    def shared(self, folder: str, read: Callable[[Path], Any], *, patient: bool = False, small: bool = False) -> Weights:
        """The weights of ``folder``, which all have in common who need them. For ``keep``: held by nobody yet, they may go at once."""
        with self.lock:
            return self._weights.setdefault(folder, Weights(Path(folder), read, patient, small))

    def _read(self, weights: Weights) -> None:
        """Reads weights, and beside that their digest: what is read again must be what was read the first time."""
        if weights.small:
            digest, content = digest_folder(weights.folder), weights.read(weights.folder)
        else:
            # Threads of their own: the priority of this one could not be raised again.
            first = stand_back if weights.patient else None
            with ThreadPoolExecutor(2, thread_name_prefix="engine-read", initializer=first) as apart:
                reading, digesting = apart.submit(weights.read, weights.folder), apart.submit(digest_folder, weights.folder)
                content, digest = reading.result(), digesting.result()
        if weights.digest not in (None, digest):
            raise _changed(weights.folder)
        weights.content, weights.digest = content, digest

    def make_room(self) -> None:
        """Evicts unused servables where the budget no longer holds, since something beside the weights has grown."""
        with self._loading, self.lock:
            self._make_room(None)

    def _every(self) -> tuple[Held, ...]:
        return (*self._servables.values(), *self._apart.values())

    def _make_room(self, keep: Held | None) -> None:
        """Puts out what nobody uses, the longest unused first, until the budget holds."""
        pinned = {id(weights) for loaded in self._every() if loaded.pinned for weights in loaded.weights}
        kept = pinned | {id(weights) for weights in (keep.weights if keep else ())}
        idle = [
            weights for weights in self._weights.values() if weights.content is not None and not weights.users and id(weights) not in kept
        ]
        for weights in sorted(idle, key=lambda weights: weights.used_at):
            if self.used <= self.budget:
                return
            for loaded in self._every():
                loaded.evictions += weights in loaded.weights and loaded.is_resident
            self._drop(weights)

    def _drop(self, weights: Weights) -> None:
        self._put_out(weights.content)
        weights.content = None

    def _free_if_idle(self, loaded: Held) -> None:
        if loaded.leaving and not loaded.uses:
            self._let_go(loaded)
            if isinstance(loaded, Loaded):
                self._freed(loaded)

    def _let_go(self, loaded: Held) -> None:
        for weights in loaded.weights:
            weights.holders -= 1
            if not weights.holders:
                if weights.content is not None:
                    self._drop(weights)
                self._weights.pop(str(weights.folder), None)


def _changed(folder: Path) -> Corrupt:
    return Corrupt(
        f"the files in {folder.name} changed since they were verified",
        "restore the artifact, and load the release again",
        code="weights_changed",
    )


def _residency(loaded: Held) -> Residency:
    return Residency(
        release=loaded.id,
        tenant=loaded.servable.tenant,
        resident=loaded.is_resident,
        pinned=loaded.pinned,
        loads=loaded.loads,
        evictions=loaded.evictions,
        requests=loaded.requests,
        load_seconds=loaded.load_seconds,
    )
