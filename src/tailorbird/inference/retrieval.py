"""Encoders (a text to a vector, a pair of texts to a score) and the index lookups of loaded servables."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from tailorbird.base_models.adapter_format import CONFIG_FILE, check_fit, refused_adapter
from tailorbird.base_models.encoder_vectors import padding_position, pooled, prefixed, read_encoder
from tailorbird.domain.base_model import Purpose
from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.domain.prompt import Entry, RetrievedEntry
from tailorbird.domain.value import Digest
from tailorbird.inference.encoder_layers import texts_of
from tailorbird.inference.forward.adapter_files import read_changes
from tailorbird.inference.forward.module_adapter import linear_sizes
from tailorbird.inference.transformers_verbosity import quiet
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.ports.engine import Embeddings, Ranked, Residency
from tailorbird.text.search_index import SearchIndex

#: Texts, and tokens of them as if each were as long as the longest, that are read at once.
_BATCH, _BATCH_TOKENS = 32, 8192
_HEAD = "head.safetensors"


class TorchEncoder:
    """An ``Encoder`` on torch. Models are read once and kept."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str | None], EncoderModel] = {}

    @property
    def nbytes(self) -> int:
        """As ``Encoder.nbytes``."""
        return sum(model.nbytes for model in list(self._read.values()))

    def embed(self, folder: Path, texts: Sequence[str], tuned: Path | None = None, purpose: Purpose = "text") -> Vectors:
        """As ``Encoder.embed``."""
        model = self._model(folder, tuned)
        read = prefixed(texts, model.described, purpose)
        unit = model.described.normalised or purpose == "text"
        found = np.empty((len(texts), model.width), dtype=np.float32)
        for batch in _batches([len(text) for text in read], model.most):
            vectors_BW = model.pooled([(read[i],) for i in batch])
            found[batch] = (torch.nn.functional.normalize(vectors_BW, dim=-1) if unit else vectors_BW).numpy()
        return found

    def count_tokens(self, folder: Path, texts: Sequence[str], purpose: Purpose = "text") -> int:
        """As ``Encoder.count_tokens``."""
        return sum(map(len, self._model(folder, None).tokens(texts, purpose)))

    def relate(self, folder: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """As ``Encoder.relate``."""
        model, head = self._model(folder, None), _head(folder)
        found = [0.0] * len(pairs)
        for batch in _batches([len(question) + len(text) for question, text in pairs], model.most):
            scores = model.pooled([pairs[i] for i in batch]) @ head["weight"][0] + head["bias"]
            for place, score in zip(batch, scores.tolist(), strict=True):
                found[place] = score
        return found

    def forget(self, folder: Path) -> None:
        """As ``Encoder.forget``."""
        for key in [key for key in list(self._read) if key[0] == str(folder)]:
            del self._read[key]

    def _model(self, folder: Path, tuned: Path | None) -> EncoderModel:
        key = (str(folder), str(tuned) if tuned else None)
        if key not in self._read:
            self._read[key] = EncoderModel(folder, tuned)
        return self._read[key]


class EncoderModel:
    """The encoder in ``folder`` with its tokenizer, as its description says. ``tuned`` holds an adapter, which is merged, or weights, which
    take the place of the encoder's."""

    def __init__(self, folder: Path, tuned: Path | None) -> None:
        whole = tuned if tuned is not None and not (tuned / CONFIG_FILE).is_file() else folder
        self.described = read_encoder(folder).description
        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
                loaded: Any = AutoModel.from_pretrained(
                    whole, use_safetensors=True, local_files_only=True, trust_remote_code=False, dtype=torch.float32
                )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ModelInvalid(
                f"the encoder in {whole.name} cannot be read ({type(error).__name__})",
                "pull it again: tailorbird models pull",
                code="encoder",
            ) from error
        self._tokenizer.padding_side = "right"
        self.model = loaded.eval()
        self._taken = inspect.signature(self.model.forward).parameters.keys()
        padding = padding_position(self.model)
        self.most, self._first = self.described.max_tokens, 0 if padding is None else padding + 1
        if tuned is not None and whole is folder:
            merge_adapter(self.model, tuned)
        self.width = self.described.width
        self.nbytes = sum(parameter.nbytes for parameter in self.model.parameters())

    @torch.inference_mode()
    def pooled(self, texts: Sequence[tuple[str, ...]]) -> torch.Tensor:
        """The vector of each text, or pair of texts: (B, width) in fp32."""
        parts = list(zip(*texts, strict=True))
        encoded = self._tokenizer(*map(list, parts), padding=True, truncation="longest_first", max_length=self.most, return_tensors="pt")
        given = {name: tensor for name, tensor in encoded.items() if name in self._taken}
        vectors_BW: torch.Tensor = pooled(self.model(**given).last_hidden_state, encoded["attention_mask"], self.described.pooling)
        return vectors_BW

    @property
    def words(self) -> list[int]:
        """Tokens that texts may hold."""
        return [token for token in range(self.model.config.vocab_size) if token != self._tokenizer.pad_token_id]

    def tokens(self, texts: Sequence[str], purpose: Purpose = "text") -> list[list[int]]:
        """The tokens of each text, cut where the encoder's context ends."""
        if not texts:
            return []
        read = prefixed(texts, self.described, purpose)
        found: list[list[int]] = self._tokenizer(read, truncation=True, max_length=self.most)["input_ids"]
        return found

    @torch.inference_mode()
    def vectors(self, texts: Sequence[Sequence[int]], filled: int = 0) -> torch.Tensor:
        """As ``pooled``, of tokens: texts lie one behind the other, without padding, and none sees another; ``filled`` tokens that are
        nobody's lie behind them. Not every encoder can be asked so: what reads positions from elsewhere raises, or gives other vectors."""
        read = [*texts, [texts[0][0]] * filled] if filled else texts
        given: dict[str, torch.Tensor] = {"input_ids": torch.tensor([[token for text in read for token in text]])}
        lengths = [len(text) for text in read]
        if len(read) > 1:
            owner_N = torch.arange(len(read)).repeat_interleave(torch.tensor(lengths))
            places = [torch.arange(length) for length in lengths[: len(texts)]] + [torch.zeros(filled, dtype=torch.long)]
            given["position_ids"] = torch.cat(places)[None] + self._first
            given["attention_mask"] = (owner_N[:, None] == owner_N)[None, None]
        unknown = given.keys() - self._taken
        if unknown:
            raise TypeError(f"this encoder takes no {', '.join(sorted(unknown))}")
        with texts_of(lengths):
            hidden_NH = self.model(**given).last_hidden_state[0, : sum(lengths) - filled]
        lengths_B = torch.tensor(lengths[: len(texts)])
        mask_BT = torch.arange(int(lengths_B.max())) < lengths_B[:, None]
        hidden_BTH = hidden_NH.new_zeros(*mask_BT.shape, hidden_NH.shape[-1])
        hidden_BTH[mask_BT] = hidden_NH
        vectors_BW: torch.Tensor = pooled(hidden_BTH, mask_BT.long(), self.described.pooling)
        return vectors_BW


@torch.no_grad()
def merge_adapter(model: Any, folder: Path) -> None:
    """Adds the adapter in ``folder`` (PEFT format) to the weights of ``model``. Raises ModelInvalid where it does not fit."""
    layers = dict(model.named_modules())
    for path, change in read_changes(folder).items():
        sizes = linear_sizes(layers.get(path))
        if sizes is None:
            raise refused_adapter(folder, f"the encoder has no linear layer {path}")
        check_fit(folder, path, change, sizes)
        layers[path].weight += change.scaling * (change.up_OR @ change.down_RI)


def _head(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / _HEAD
    if not path.is_file():
        raise ModelInvalid(
            f"the encoder in {folder.name} has no head that scores pairs", "adapt again with cross-encoder", code="model_unsupported"
        )
    return load_file(path)


def _batches(lengths: Sequence[int], most: int) -> list[list[int]]:
    """Places of texts of like ``lengths`` (characters) together; of each text ``most`` tokens are read."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    batches = list[list[int]]()
    for place in order:
        longest = max(1, min(lengths[place], most))
        if not batches or len(batches[-1]) == _BATCH or (len(batches[-1]) + 1) * longest > max(_BATCH_TOKENS, longest):
            batches.append([])
        batches[-1].append(place)
    return batches


class Lookups:
    """Indexes of loaded servables; each is read once a folder, and kept while a servable needs it."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._servables: dict[Digest, LocalRetrieval] = {}
        self._residencies: dict[Digest, Residency] = {}
        self._indexes: dict[str, SearchIndex] = {}

    @property
    def nbytes(self) -> int:
        """Memory of indexes and encoders. May be asked by any thread."""
        return sum(index.nbytes for index in list(self._indexes.values())) + self._encoder.nbytes

    def load(self, servable: Servable, *, pinned: bool) -> None:
        """Reads the index of ``servable``, where it has one. Raises ModelInvalid."""
        local = servable.retrieval
        if local is None:
            return
        if servable.id not in self._servables:
            if local.index not in self._indexes:
                index = SearchIndex(Path(local.index))
                _ = index.nbytes  # counted here, and not while the registry's lock is held
                self._indexes[local.index] = index
            self._servables[servable.id] = local
        self._residencies[servable.id] = Residency(release=servable.id, tenant=servable.tenant, resident=True, pinned=pinned, loads=1)

    def unload(self, servable: Digest) -> None:
        """Forgets it; unknown ids are ignored."""
        gone = self._servables.pop(servable, None)
        self._residencies.pop(servable, None)
        if gone is not None and all(local.index != gone.index for local in self._servables.values()):
            self._indexes.pop(gone.index, None)

    def residencies(self) -> tuple[Residency, ...]:
        """Every servable that looks something up: its index is never put out."""
        return tuple(self._residencies.values())

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
            vectors = self._encoder.embed(Path(local.encoder), documents, purpose="passage") if asked and local.encoder else None
            found = SearchIndex.of(entries, vectors).find(text if "words" in local.spec.ways else "", asked, frozenset(), count)
            best = [(one.score, int(one.entry.id)) for one in found]
        reads = local.reranker or (local.encoder if "vectors" in local.spec.ways else None)
        tokens = self._encoder.count_tokens(Path(reads), [text, *documents], "passage") if reads else 0
        return Ranked(places=tuple(place for _, place in best), scores=tuple(score for score, _ in best), prompt_tokens=tokens)

    def embed(self, servable: Digest, texts: Sequence[str]) -> Embeddings:
        """As ``Engine.embed``."""
        local = self._servables.get(servable)
        if local is None or local.encoder is None:
            raise InvalidInput(
                "this model turns no texts into vectors", "ask a model of rank that searches by vectors", code="embeddings_missing"
            )
        encoder, tuned = Path(local.encoder), Path(local.tuned) if local.tuned else None
        vectors = self._encoder.embed(encoder, texts, tuned, "query")
        return Embeddings(vectors=tuple(map(tuple, vectors.tolist())), prompt_tokens=self._encoder.count_tokens(encoder, texts, "query"))

    def _vectors(self, local: LocalRetrieval, texts: Sequence[str]) -> list[Vectors]:
        """Of each text one vector a way: the encoder's and, where it was tuned for questions, the tuned one's too. The two err apart."""
        if "vectors" not in local.spec.ways or local.encoder is None:
            return []
        encoder = Path(local.encoder)
        purpose: Purpose = "text" if local.spec.what == "examples" else "query"
        ways = [None, Path(local.tuned)] if local.tuned else [None]
        return [self._encoder.embed(encoder, texts, tuned, purpose) for tuned in ways]

    def _reranked(self, local: LocalRetrieval, text: str, found: list[RetrievedEntry]) -> list[RetrievedEntry]:
        """The first ones in the order of the cross-encoder, where there is one; what lies deeper stays below them."""
        if local.reranker is None or not found:
            return found
        first, rest = found[: local.spec.depth], found[local.spec.depth :]
        scores = self._encoder.relate(Path(local.reranker), [(text, f"{one.entry.title} {one.entry.text}".strip()) for one in first])
        order = sorted(range(len(first)), key=lambda place: -scores[place])
        return [RetrievedEntry(entry=first[place].entry, score=scores[place]) for place in order] + rest
