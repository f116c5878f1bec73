"""Encoders (a text to a vector, a pair of texts to a score) and the index lookups of loaded servables."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import LocalRetrieval, Servable
from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.domain.retrieval import Entry, RetrievedEntry
from tailorbird.domain.value import Digest
from tailorbird.inference.encoder_layers import texts_of
from tailorbird.inference.transformers_verbosity import quiet
from tailorbird.ports.encoder import Encoder, Vectors
from tailorbird.ports.engine import Embeddings, Ranked, Residency
from tailorbird.text.search_index import SearchIndex

#: Tokens of a text that are read: what the encoder of the catalogue was trained on.
MOST_TOKENS = 256
_BATCH = 32
_HEAD, _ADAPTER = "head.safetensors", "adapter_config.json"


class TorchEncoder:
    """An ``Encoder`` on torch. Models are read once and kept."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str | None], EncoderModel] = {}
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """As ``Encoder.nbytes``."""
        return self._nbytes

    def embed(self, folder: Path, texts: Sequence[str], tuned: Path | None = None) -> Vectors:
        """As ``Encoder.embed``."""
        model = self._model(folder, tuned)
        found = np.empty((len(texts), model.width), dtype=np.float32)
        for batch in _batches([len(text) for text in texts]):
            found[batch] = torch.nn.functional.normalize(model.pooled([(texts[i],) for i in batch]), dim=-1).numpy()
        return found

    def count_tokens(self, folder: Path, texts: Sequence[str]) -> int:
        """As ``Encoder.count_tokens``."""
        return self._model(folder, None).count_tokens(texts)

    def relate(self, folder: Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """As ``Encoder.relate``."""
        model, head = self._model(folder, None), _head(folder)
        found = [0.0] * len(pairs)
        for batch in _batches([len(question) + len(text) for question, text in pairs]):
            scores = model.mean([pairs[i] for i in batch]) @ head["weight"][0] + head["bias"]
            for place, score in zip(batch, scores.tolist(), strict=True):
                found[place] = score
        return found

    def forget(self, folder: Path) -> None:
        """As ``Encoder.forget``."""
        for key in [key for key in list(self._read) if key[0] == str(folder)]:
            self._nbytes -= self._read.pop(key).nbytes

    def _model(self, folder: Path, tuned: Path | None) -> EncoderModel:
        key = (str(folder), str(tuned) if tuned else None)
        if key not in self._read:
            self._read[key] = EncoderModel(folder, tuned)
            self._nbytes += self._read[key].nbytes
        return self._read[key]


class EncoderModel:
    """An encoder with its tokenizer. ``tuned`` holds an adapter, which is merged, or weights, which take the place of the encoder's.
    ``pooling`` is the rule by which texts become vectors, where it is not that of the files."""

    def __init__(self, folder: Path, tuned: Path | None, pooling: str | None = None) -> None:
        whole = tuned if tuned is not None and not (tuned / _ADAPTER).is_file() else folder
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
        self.model = loaded.eval()
        # What was tuned here was tuned by the mean, and is read by it, unless its own folder says otherwise.
        self._pooling = pooling or pooling_of(tuned or folder)
        self._taken = inspect.signature(self.model.forward).parameters.keys()
        positions = getattr(self.model.config, "max_position_embeddings", None) or MOST_TOKENS
        # Some count their positions from the number of the padding token on: their position embedding knows it.
        embedding = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        padding = getattr(embedding, "padding_idx", None)
        self.most, self._first = min(MOST_TOKENS, positions - (padding or 0) - 1), 0 if padding is None else padding + 1
        if tuned is not None and whole is folder:
            merge_adapter(self.model, tuned)
        self.width: int = self.model.config.hidden_size
        self.nbytes = sum(parameter.nbytes for parameter in self.model.parameters())

    def count_tokens(self, texts: Sequence[str]) -> int:
        """Tokens that are read of all texts."""
        return sum(map(len, self._tokenizer(list(texts), truncation=True, max_length=self.most)["input_ids"])) if texts else 0

    def mean(self, texts: Sequence[tuple[str, ...]]) -> torch.Tensor:
        """The mean over the tokens of each text, or pair of texts: (B, H) in fp32."""
        return self._read(texts, "mean")

    def pooled(self, texts: Sequence[tuple[str, ...]]) -> torch.Tensor:
        """The vector of each text (B, H, fp32), by the encoder's rule."""
        return self._read(texts, self._pooling)

    @torch.inference_mode()
    def _read(self, texts: Sequence[tuple[str, ...]], pooling: str) -> torch.Tensor:
        parts = list(zip(*texts, strict=True))
        encoded = self._tokenizer(*map(list, parts), padding=True, truncation="longest_first", max_length=self.most, return_tensors="pt")
        given = {name: tensor for name, tensor in encoded.items() if name in self._taken}
        return pool(self.model(**given).last_hidden_state, encoded["attention_mask"], pooling)

    @property
    def words(self) -> list[int]:
        """Tokens that texts may hold."""
        return [token for token in range(self.model.config.vocab_size) if token != self._tokenizer.pad_token_id]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, cut where the encoder's context ends."""
        found: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=self.most)["input_ids"]
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
        hidden_BTH = hidden_NH.new_zeros(*mask_BT.shape, self.width)
        hidden_BTH[mask_BT] = hidden_NH
        return pool(hidden_BTH, mask_BT.long(), self._pooling)


#: Settings of a pooling module of sentence-transformers to the rules that are known here.
_RULES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
}


def pooling_of(folder: Path) -> str:
    """The rule by which an encoder's hidden states become one vector: that of its files for sentence-transformers, or the mean.

    Raises ModelInvalid: it is made in a way that is not known here.
    """
    modules = _listed(folder / "modules.json")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if odd := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise _unknown_pooling(folder, f"a module {odd[0][:40]}")
    for module, kind in zip(modules, kinds, strict=True):
        if kind == "Pooling":
            (settings,) = _listed(folder / str(module.get("path", "")) / "config.json") or ({},)
            named = [rule for setting, rule in _RULES.items() if settings.get(setting)] or [settings.get("pooling_mode", "mean")]
            others = [name for name, on in settings.items() if name.startswith("pooling_mode_") and on and name not in _RULES]
            if len(named) > 1 or others or named[0] not in _RULES.values():
                raise _unknown_pooling(folder, "several rules at a time, or a weighted one")
            return str(named[0])
    return "mean"


def _listed(path: Path) -> list[dict[str, Any]]:
    """What a JSON file holds, as a list; empty where there is no such file, or not one that can be read."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [each for each in (held if isinstance(held, list) else [held]) if isinstance(each, dict)]


def _unknown_pooling(folder: Path, what: str) -> ModelInvalid:
    return ModelInvalid(
        f"the encoder in {folder.name} makes its vectors by {what}, which is not known here",
        "use an encoder that takes the mean, the maximum, the first or the last of its tokens",
        code="encoder_pooling",
    )


def pool(hidden_BTH: torch.Tensor, mask_BT: torch.Tensor, rule: str) -> torch.Tensor:
    """One vector (BH) a text of its tokens' hidden states, padding left out."""
    if rule == "cls":
        return hidden_BTH[torch.arange(len(hidden_BTH)), mask_BT.argmax(dim=1)]
    if rule == "lasttoken":
        last_B = mask_BT.shape[1] - 1 - mask_BT.flip(1).argmax(dim=1)
        return hidden_BTH[torch.arange(len(hidden_BTH)), last_B]
    if rule == "max":
        return hidden_BTH.masked_fill(mask_BT[..., None] == 0, float("-inf")).amax(dim=1)
    mask_BT1 = mask_BT[..., None]
    mean_BH: torch.Tensor = (hidden_BTH * mask_BT1).sum(1) / mask_BT1.sum(1)
    return mean_BH


@torch.no_grad()
def merge_adapter(model: Any, folder: Path) -> None:
    """Adds the adapter in ``folder`` (PEFT format) to the weights of ``model``. Raises ModelInvalid where it does not fit."""
    config = json.loads((folder / _ADAPTER).read_text(encoding="utf-8"))
    tensors = load_file(folder / "adapter_model.safetensors")
    for name, a_RI in tensors.items():
        if ".lora_A." not in name:
            continue
        path = name.removeprefix("base_model.model.").partition(".lora_A.")[0]
        b_OR = tensors[name.replace(".lora_A.", ".lora_B.")]
        try:
            model.get_submodule(path).weight += config["lora_alpha"] / config["r"] * (b_OR @ a_RI)
        except (AttributeError, RuntimeError) as error:
            raise ModelInvalid(f"the adapter does not fit the encoder at {path}", "adapt again", code="adapter_mismatch") from error


def _head(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / _HEAD
    if not path.is_file():
        raise ModelInvalid(
            f"the encoder in {folder.name} has no head that scores pairs", "adapt again with cross-encoder", code="encoder_head"
        )
    return load_file(path)


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Places of like lengths together."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]


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
