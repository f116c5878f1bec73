"""An encoder that many adapters have in common: texts of several adapters are read together, each with its own.

The products of the encoder's own weights are made of the tokens of all texts at once, without padding: texts lie one behind the other,
and each attends to itself alone. Beside them each text has the low-rank change of its adapter (as in Punica, Chen et al. 2023, arXiv
2310.18547, and S-LoRA, Sheng et al. 2023, arXiv 2311.03285): an adapter's matrices are multiplied with its own tokens alone. Whether an
encoder can be asked so is tried when it is read; where its vectors then differ, one text at a time is read.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.encoder_layers import attend_apart, attend_by, pack_linear_layers
from tailorbird.inference.forward.module_adapter import AdapterHooks, LowRank, ModuleAdapter, RowRange, linear_sizes, read_module_adapter
from tailorbird.inference.openmp_threads import at_most_threads
from tailorbird.inference.retrieval import EncoderModel
from tailorbird.ports.encoder import Vectors
from tailorbird.text.linear_classifier import ADAPTER, LinearText, read_linear

#: Tokens that are read at once, unless one text has more: attention costs their square.
_TOGETHER = 256
#: What their number is filled up to a multiple of: oneDNN compiles a product for each number of rows, and keeps few (primitive_cache.py).
_STEP = 16
#: Products of numbers for each thread (on one core some 40 ms): threads meet at every layer, and each waits there for a core that gateways
#: and others want too. Eight requests of MiniLM by two threads took 9.0 ms of cores each on two busy cores, by one 5.1.
_PRODUCTS_EACH = 4e9
#: Tokens of the texts by which it is tried whether several can lie one behind the other (the longest as long as a window, which shows
#: there alone), and how far numbers of vectors may differ then.
_TRIED, _OFF = (5, 2, 512, 40), 1e-5


@dataclass(frozen=True, eq=False)
class EncoderAdapter:
    """What a release has of its own: the adapter of the encoder (None: the encoder is its own), and the head that reads the vectors."""

    layers: ModuleAdapter | None
    head: LinearText

    @cached_property
    def nbytes(self) -> int:
        """Bytes held; counted once: the budget's sum over hundreds of adapters is made for each that is read."""
        return (self.layers.nbytes if self.layers else 0) + self.head.nbytes


class _TokenizedText(NamedTuple):
    """A text's tokens, its place among those asked, and its adapter."""

    place: int
    tokens: list[int]
    adapter: ModuleAdapter


class SharedEncoder:
    """The encoder in ``folder``, in memory once. Thread-safe; one batch at a time is computed."""

    def __init__(self, folder: Path) -> None:
        self._encoder = EncoderModel(folder, None)
        self._changes = AdapterHooks(self._encoder.model)
        self._computing = threading.Lock()
        sizes = [linear_sizes(layer) for layer in self._encoder.model.modules()]
        self._products = sum(each[0] * each[1] for each in sizes if each)
        self.width, self.nbytes = self._encoder.width, self._encoder.nbytes
        #: Tokens of texts that lie one behind the other; 0: each text is read by itself.
        self.together = 0
        self.together = _TOGETHER if self._is_equal_together() else 0

    def read_adapter(self, folder: Path) -> EncoderAdapter:
        """What ``write_linear`` wrote into ``folder``, and the adapter there. Raises ModelInvalid where it is not of this encoder."""
        head = read_linear(folder)
        if head.width != self.width:
            raise ModelInvalid(
                f"the head in {folder.name} reads {head.width} numbers of a vector, and its encoder gives {self.width}",
                "restore the artifact, or adapt again",
            )
        return EncoderAdapter(read_module_adapter(folder / ADAPTER, self._encoder.model, torch.float32), head)

    def embed(self, texts: Sequence[str], adapters: Sequence[EncoderAdapter]) -> Vectors:
        """A vector of length 1 a text, (texts, width), each by its own of ``adapters``; texts beyond the encoder's context are cut."""
        layers = [adapter.layers for adapter in adapters if adapter.layers]
        with self._computing:
            read = zip(self._encoder.tokens(texts), layers, strict=True)
            return self._embedded([_TokenizedText(place, *each) for place, each in enumerate(read)], self.together)

    def _embedded(self, texts: list[_TokenizedText], together: int) -> Vectors:
        for text in texts:
            self._changes.cover(text.adapter)
        found = np.empty((len(texts), self.width), dtype=np.float32)
        for part in _parts(texts, together):
            vectors_BW = self._vectors(part)
            if len(part) > 1 and not vectors_BW.isfinite().all():
                # What is hidden counts zero times, and zero times no number is none: whose text it is must not reach the others.
                vectors_BW = torch.cat([self._vectors([text]) for text in part])
            found[[text.place for text in part]] = torch.nn.functional.normalize(vectors_BW, dim=-1).numpy()
        return found

    def _vectors(self, texts: list[_TokenizedText]) -> torch.Tensor:
        tokens = sum(len(text.tokens) for text in texts)
        filled = -tokens % _STEP if self.together or len(texts) > 1 else 0
        threads = max(1, round((tokens + filled) * self._products / _PRODUCTS_EACH))
        with at_most_threads(threads), self._changes.applied(_ranges(texts), tokens + filled, 1):
            return self._encoder.vectors([text.tokens for text in texts], filled)

    def _is_equal_together(self) -> bool:
        """Whether texts that lie one behind the other, of two adapters, have the vectors that each has by itself."""
        draw, lengths = random.Random(0), [min(count, self._encoder.most) for count in _TRIED]
        adapters = [_random_adapter(self._encoder.model, seed) for seed in (1, 2)]
        words = self._encoder.words
        texts = [_TokenizedText(place, draw.choices(words, k=count), adapters[place % 2]) for place, count in enumerate(lengths)]
        apart = self._embedded(texts, 0)
        model = self._encoder.model
        self._changes.forget()
        pack_linear_layers(model)
        before = attend_apart(model)
        if self._gives(texts, apart):
            return True
        if before is None:
            return False
        attend_by(model, before)
        return self._gives(texts, apart)

    def _gives(self, texts: list[_TokenizedText], wanted: Vectors) -> bool:
        """Whether texts one behind the other have the vectors that are wanted."""
        try:
            found = self._embedded(texts, sum(len(text.tokens) for text in texts))
        except (TypeError, ValueError, RuntimeError, IndexError):
            return False
        return bool(np.abs(found - wanted).max() <= _OFF)


def _random_adapter(model: Any, seed: int) -> ModuleAdapter:
    """Changes of rank 1 of all linear layers in the encoder's blocks."""
    draw = torch.Generator().manual_seed(seed)
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    inside = {id(module) for blocks in lists for module in blocks.modules()}
    changes = {}
    for path, layer in model.named_modules():
        if id(layer) in inside and (sizes := linear_sizes(layer)) is not None:
            down_RI = torch.randn(1, sizes[0], generator=draw) / sizes[0] ** 0.5
            changes[path] = LowRank(down_RI, torch.randn(sizes[1], 1, generator=draw) / 10)
    return ModuleAdapter(changes)


def _parts(texts: list[_TokenizedText], together: int) -> Iterator[list[_TokenizedText]]:
    """The texts, those of one adapter side by side, as many at a time as have ``together`` tokens, one at least."""
    part, tokens = list[_TokenizedText](), 0
    for text in sorted(texts, key=lambda text: id(text.adapter)):
        if part and tokens + len(text.tokens) > together:
            yield part
            part, tokens = [], 0
        part.append(text)
        tokens += len(text.tokens)
    if part:
        yield part


def _ranges(texts: Sequence[_TokenizedText]) -> list[RowRange]:
    found, start = list[RowRange](), 0
    for _, own in groupby(texts, key=lambda text: id(text.adapter)):
        first, *others = own
        stop = start + sum(len(text.tokens) for text in (first, *others))
        found.append(RowRange(start, stop, first.adapter))
        start = stop
    return found
