"""Artifact store of one tenant in a workspace that encrypts: its own artifacts under its key, before what lies in the clear for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore, ErasableStore


class SealedArtifacts:
    """Implements ``ErasableStore``. What is put is encrypted, but for what is ``public``; what is read is looked for among the encrypted
    first, and then in ``shared``, where public artifacts lie and those from before the workspace encrypted.

    ``own`` opens the encrypted part on first use, and gives None where the tenant has none.
    """

    def __init__(self, own: Callable[[], ErasableStore | None], shared: ErasableStore) -> None:
        self._opens = own
        self._shared = shared

    def put(self, *parts: bytes | memoryview) -> Digest:
        """As ``ArtifactStore.put``."""
        return self._written.put(*parts)

    def get(self, digest: Digest) -> bytes:
        """As ``ArtifactStore.get``."""
        return self._holder(digest).get(digest)

    def save(self, digest: Digest, target: Path) -> None:
        """As ``ArtifactStore.save``."""
        self._holder(digest).save(digest, target)

    def put_tree(self, folder: Path, *, public: bool = False) -> Digest:
        """As ``ArtifactStore.put_tree``."""
        return self._shared.put_tree(folder, public=True) if public else self._written.put_tree(folder)

    def get_tree(self, digest: Digest) -> Path:
        """As ``ArtifactStore.get_tree``. Files of a tree that were stored before the workspace encrypted are encrypted now."""
        holder = self._holder(digest)
        if holder is not self._shared:
            for file in set(holder.tree(digest).values()):
                if not holder.exists(file) and self._shared.exists(file):
                    self._shared.copy(file, holder)
        return holder.get_tree(digest)

    def tree(self, digest: Digest) -> dict[str, Digest]:
        """As ``ArtifactStore.tree``."""
        return self._holder(digest).tree(digest)

    def exists(self, digest: Digest) -> bool:
        """As ``ArtifactStore.exists``."""
        return self._holder(digest).exists(digest)

    def size(self, digest: Digest) -> int | None:
        """As ``ErasableStore.size``."""
        return self._holder(digest).size(digest)

    def destroy(self, digest: Digest, *, shared: bool = False) -> bool:
        """As ``ErasableStore.destroy``. What is encrypted is nobody else's."""
        own = self._opens()
        gone = own is not None and own.destroy(digest)
        return self._shared.destroy(digest, shared=shared) or gone

    def forget_copies(self, digest: Digest) -> None:
        """As ``ErasableStore.forget_copies``."""
        for store in filter(None, (self._opens(), self._shared)):
            store.forget_copies(digest)

    def digests(self) -> Iterator[Digest]:
        """Names of what is encrypted for the tenant, and of what lies in the clear."""
        own = self._opens()
        seen = set(own.digests()) if own is not None else set[Digest]()
        yield from seen
        yield from (digest for digest in self._shared.digests() if digest not in seen)

    def copy(self, digest: Digest, to: ArtifactStore) -> bool:
        """As ``ArtifactStore.copy``."""
        return self._holder(digest).copy(digest, to)

    @property
    def _written(self) -> ErasableStore:
        own = self._opens()
        return self._shared if own is None else own

    def _holder(self, digest: Digest) -> ErasableStore:
        own = self._opens()
        return own if own is not None and own.exists(digest) else self._shared
