"""An encoder that many adapters have in common: texts of several adapters are read together, each with its own.

The products of the encoder's own weights are made of all texts at once. Beside them each row has the low-rank change of its adapter (as in
Punica, Chen et al. 2023, arXiv 2310.18547, and S-LoRA, Sheng et al. 2023, arXiv 2311.03285), by the hooks that serve language models
(``forward/module_adapter.py``): a row's own matrices are multiplied with that row alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.forward.module_adapter import AdapterHooks, ModuleAdapter, RowRange, read_module_adapter
from tailorbird.inference.retrieval import EncoderModel
from tailorbird.ports.encoder import Vectors
from tailorbird.text.linear_classifier import ADAPTER, LinearText, read_linear

#: Characters of a text by which it may exceed the shortest that is read with it, and how many times: padding is computed like words.
_LONGER, _TIMES = 40, 1.5


@dataclass(frozen=True, eq=False)
class EncoderAdapter:
    """What a release has of its own: the adapter of the encoder, and the head that reads the vectors."""

    layers: ModuleAdapter
    head: LinearText

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.layers.nbytes + self.head.nbytes


class SharedEncoder:
    """The encoder in ``folder``, in memory once. Thread-safe; one batch at a time is computed."""

    def __init__(self, folder: Path) -> None:
        self._encoder = EncoderModel(folder, None)
        self._hooks = AdapterHooks(self._encoder.model)
        self._computing = threading.Lock()
        self.width, self.nbytes = self._encoder.width, self._encoder.nbytes

    def read_adapter(self, folder: Path) -> EncoderAdapter:
        """What ``write_linear`` wrote into ``folder``, and the adapter there. Raises ModelInvalid where it is not of this encoder."""
        head = read_linear(folder)
        if head.width != self.width:
            raise ModelInvalid(
                f"the head in {folder.name} reads {head.width} numbers of a vector, and its encoder gives {self.width}",
                "restore the artifact, or adapt again",
                code="floor_invalid",
            )
        return EncoderAdapter(read_module_adapter(folder / ADAPTER, self._encoder.model, torch.float32), head)

    def embed(self, texts: Sequence[str], adapters: Sequence[EncoderAdapter]) -> Vectors:
        """A vector of length 1 a text, (texts, width), each by its own of ``adapters``; texts beyond the encoder's context are cut."""
        found = np.empty((len(texts), self.width), dtype=np.float32)
        with self._computing:
            for adapter in adapters:
                self._hooks.cover(adapter.layers)
            for places in _alike(texts, adapters):
                tokens = self._encoder.tokens([(texts[place],) for place in places])
                ranges = list(_ranges([adapters[place].layers for place in places]))
                with self._hooks.applied(ranges, *tokens["input_ids"].shape):
                    vectors_BW = self._encoder.vectors(tokens)
                found[places] = torch.nn.functional.normalize(vectors_BW, dim=-1).numpy()
        return found


def _alike(texts: Sequence[str], adapters: Sequence[EncoderAdapter]) -> list[list[int]]:
    """Places of texts of like length, those of one adapter side by side."""
    groups, order = list[list[int]](), sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for place in order:
        if not groups or len(texts[place]) > _TIMES * len(texts[groups[-1][0]]) + _LONGER:
            groups.append([])
        groups[-1].append(place)
    return [sorted(group, key=lambda place: id(adapters[place])) for group in groups]


def _ranges(adapters: Sequence[ModuleAdapter]) -> Iterator[RowRange]:
    """Neighbouring rows of one adapter."""
    start = 0
    for _, rows in groupby(adapters, key=id):
        count = len(list(rows))
        yield RowRange(start, start + count, adapters[start])
        start += count
