"""Which servables are loaded, and who is using them.

In: servables. Out: what is needed to run one. Base models and full weights are read once per folder and freed with their last servable; a
servable is freed once it is unloaded and no call uses it. Must not know: scoring, generation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import NotFound
from tailorbird.domain.value import Digest
from tailorbird.inference.adapter import read_adapter
from tailorbird.inference.chat import ChatFormat
from tailorbird.inference.decoder import Decoder, read_decoder
from tailorbird.inference.model import Model
from tailorbird.inference.precision import Placement


@dataclass
class Loaded:
    """A servable that is ready. ``uses`` counts running calls; ``leaving`` is set once it is unloaded."""

    id: Digest
    folder: str
    chat: ChatFormat
    model: Model
    uses: int = 0
    leaving: bool = False


@dataclass
class _Shared:
    """A decoder and the number of servables that hold it."""

    decoder: Decoder
    holders: int = 0


class Registry:
    """Loaded servables by id. Thread-safe; loading does not hold up calls. ``freed`` is told when a servable is gone."""

    def __init__(self, placement: Placement, freed: Callable[[Digest], None]) -> None:
        self._placement = placement
        self._freed = freed
        self._servables: dict[Digest, Loaded] = {}
        self._decoders: dict[str, _Shared] = {}
        self._chats: dict[str, ChatFormat] = {}
        self._lock = threading.Lock()
        self._loading = threading.RLock()

    def load(self, servable: Servable) -> None:
        """Reads what a servable needs. Raises ModelInvalid."""
        with self._loading:
            if servable.id in self._servables:
                return
            folder = servable.weights or servable.base
            chat = self.chat(servable.base)
            shared = self._decoders.get(folder) or _Shared(read_decoder(Path(folder), self._placement))
            adapter = None
            if servable.adapter is not None:
                adapter = read_adapter(Path(servable.adapter), shared.decoder.linears, shared.decoder.shape)
            with self._lock:
                shared.holders += 1
                self._decoders[folder] = shared
                self._servables[servable.id] = Loaded(servable.id, folder, chat, Model(shared.decoder, adapter))

    def unload(self, servable: Digest) -> None:
        """Takes a servable out of service at once; frees it now or when its last call ends."""
        with self._loading, self._lock:
            loaded = self._servables.pop(servable, None)
            if loaded is not None:
                loaded.leaving = True
                self._free_if_idle(loaded)

    @contextmanager
    def use(self, servable: Digest) -> Iterator[Loaded]:
        """Holds a servable for one call. Raises NotFound when it is not loaded."""
        with self._lock:
            loaded = self._servables.get(servable)
            if loaded is None:
                raise NotFound("this servable is not loaded", "load it before asking it", code="servable_not_loaded")
            loaded.uses += 1
        try:
            yield loaded
        finally:
            with self._lock:
                loaded.uses -= 1
                self._free_if_idle(loaded)

    def ids(self) -> tuple[Digest, ...]:
        """Ids in the order of loading."""
        with self._lock:
            return tuple(self._servables)

    def chat(self, folder: str) -> ChatFormat:
        """The chat format of a base model's folder, read once."""
        with self._loading:
            if folder not in self._chats:
                self._chats[folder] = ChatFormat(Path(folder))
            return self._chats[folder]

    def _free_if_idle(self, loaded: Loaded) -> None:
        if not loaded.leaving or loaded.uses:
            return
        shared = self._decoders[loaded.folder]
        shared.holders -= 1
        if shared.holders == 0:
            del self._decoders[loaded.folder]
        self._freed(loaded.id)
