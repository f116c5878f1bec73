"""What loaded servables look up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.retrieval import Entry, RetrievedEntry
from tailorbird.domain.value import Digest
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.ports.engine import Embeddings, Ranked, Residency
from tailorbird.text.search_index import SearchIndex


class Lookups:
    """Indexes of loaded servables; each is read once a folder, and kept while a servable needs it."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._servables: dict[Digest, LocalRetrieval] = {}
        self._residencies: dict[Digest, Residency] = {}
        self._indexes: dict[str, SearchIndex] = {}
        self._index_nbytes = 0

    @property
    def nbytes(self) -> int:
        """Memory of indexes and encoders. May be asked by any thread."""
        return self._index_nbytes + self._encoder.nbytes

    def load(self, servable: Servable, *, pinned: bool) -> None:
        """Reads the index of ``servable``, where it has one. Raises ModelInvalid."""
        local = servable.retrieval
        if local is None:
            return
        if servable.id not in self._servables:
            if local.index not in self._indexes:
                self._indexes[local.index] = SearchIndex(Path(local.index))
            self._servables[servable.id] = local
            self._count()
        self._residencies[servable.id] = Residency(release=servable.id, tenant=servable.tenant, resident=True, pinned=pinned, loads=1)

    def unload(self, servable: Digest) -> None:
        """Forgets it; unknown ids are ignored."""
        gone = self._servables.pop(servable, None)
        self._residencies.pop(servable, None)
        if gone is not None and all(local.index != gone.index for local in self._servables.values()):
            self._indexes.pop(gone.index, None)
            self._count()

    def residencies(self) -> tuple[Residency, ...]:
        """Every servable that looks something up: its index is never put out."""
        return tuple(self._residencies.values())

    def _count(self) -> None:
        self._index_nbytes = sum(index.nbytes for index in self._indexes.values())

    def ids(self) -> tuple[Digest, ...]:
        """Servables that look something up."""
        return tuple(self._servables)

    def find(self, servable: Digest, texts: Sequence[str], groups: frozenset[str], count: int) -> list[list[RetrievedEntry]]:
        """As ``Engine.retrieve``."""
        local = self._servables.get(servable)
        if local is None:
            raise InvalidInput("this model looks nothing up", "ask a model of nearest, grounding or rank", code="retrieval_missing")
        index, spec = self._indexes[local.index], local.spec
        vectors = self._vectors(local, texts)
        wanted = max(count, spec.depth) if local.reranker else count
        found = [
            index.find(text if "words" in spec.ways else "", [way[place] for way in vectors], groups, wanted)
            for place, text in enumerate(texts)
        ]
        return [self._reranked(local, text, each)[:count] for text, each in zip(texts, found, strict=True)]

    def rank(self, servable: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """As ``Engine.rank``: all by the cross-encoder, where there is one; else an index is made for this one question."""
        local = self._servables.get(servable)
        if local is None:
            raise InvalidInput("this model ranks nothing", "ask a model of rank", code="retrieval_missing")
        if local.reranker is not None:
            related = self._encoder.relate(Path(local.reranker), [(text, document) for document in documents])
            best = sorted(((score, place) for place, score in enumerate(related)), key=lambda one: -one[0])[:count]
        else:
            entries = [Entry(id=str(place), text=document, access=(EVERYONE,)) for place, document in enumerate(documents)]
            asked = [way[0] for way in self._vectors(local, [text])]
            vectors = self._encoder.embed(Path(local.encoder), documents) if asked and local.encoder else None
            found = SearchIndex.of(entries, vectors).find(text if "words" in local.spec.ways else "", asked, frozenset(), count)
            best = [(one.score, int(one.entry.id)) for one in found]
        reads = local.reranker or (local.encoder if "vectors" in local.spec.ways else None)
        tokens = self._encoder.count_tokens(Path(reads), [text, *documents]) if reads else 0
        return Ranked(places=tuple(place for _, place in best), scores=tuple(score for score, _ in best), prompt_tokens=tokens)

    def embed(self, servable: Digest, texts: Sequence[str]) -> Embeddings:
        """As ``Engine.embed``."""
        local = self._servables.get(servable)
        if local is None or local.encoder is None:
            raise InvalidInput(
                "this model turns no texts into vectors", "ask a model of rank that searches by vectors", code="embeddings_missing"
            )
        encoder, tuned = Path(local.encoder), Path(local.tuned) if local.tuned else None
        vectors = self._encoder.embed(encoder, texts, tuned)
        return Embeddings(vectors=tuple(map(tuple, vectors.tolist())), prompt_tokens=self._encoder.count_tokens(encoder, texts))

    def _vectors(self, local: LocalRetrieval, texts: Sequence[str]) -> list[Vectors]:
        """Of each text one vector a way: the encoder's and, where it was tuned for questions, the tuned one's too. The two err apart."""
        if "vectors" not in local.spec.ways or local.encoder is None:
            return []
        plain = [self._encoder.embed(Path(local.encoder), texts)]
        return plain + ([self._encoder.embed(Path(local.encoder), texts, Path(local.tuned))] if local.tuned else [])

    def _reranked(self, local: LocalRetrieval, text: str, found: list[RetrievedEntry]) -> list[RetrievedEntry]:
        """The first ones in the order of the cross-encoder, where there is one; what lies deeper stays below them."""
        if local.reranker is None or not found:
            return found
        first, rest = found[: local.spec.depth], found[local.spec.depth :]
        scores = self._encoder.relate(Path(local.reranker), [(text, f"{one.entry.title} {one.entry.text}".strip()) for one in first])
        order = sorted(range(len(first)), key=lambda place: -scores[place])
        return [RetrievedEntry(entry=first[place].entry, score=scores[place]) for place in order] + rest
