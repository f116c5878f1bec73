"""Averaged encoders against the floor with vectors: the experiment of docs/design/rungs.md.

Four copies of the upper half of the layers are tuned over kept states of the lower half (which no step changes), each without a twentieth
of the rows; their weights are averaged, and so are the vectors that stand for the labels, which answer by the nearest. Compared in pairs on
every row of Banking77's train file that was not learned. In: ``DRAWS=2,3``, ``LEARNED=10``, ``PASSES=6``, ``CONTRAST=0.5`` (the weight of a
loss over the names of the batch's labels; 0: none), ``PARTS=20`` (4: each lacks a fourth), ``ADAPTERS=16:10:learned,16:10:frozen`` (tuned
too, and compared with all weights: docs/design/engine.md; rank, times the rate, and what is averaged: both matrices, B alone beside an A
that stays as drawn, or with ``exact`` the products B A). Out: per draw both accuracies and the
difference with its 95 % interval, and all draws together, a row that recurs being one cluster. One thread; the official test is not read.

    python benchmarks/decision/averaged_encoders.py
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import math
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from beds import DATA
from encoder import ENCODER, Drawn, _row, drawn
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from tailorbird.domain.dataset import Row
from tailorbird.inference import open_encoder
from tailorbird.rungs import fit_floor
from tailorbird.stats.paired_tests import paired_interval

ENCODERS, TEMPERATURE, BATCH, RATE, PROTOTYPES_RATE, DROPOUT = 4, 0.05, 32, 2e-4, 10.0, 0.1


class Adapted(nn.Module):
    """A linear layer and an adapter of rank ``rank`` beside it, scaled by 32 / rank; ``frozen``: its A does not learn."""

    def __init__(self, linear: nn.Linear, rank: int, frozen: bool) -> None:
        super().__init__()
        self.linear, self.scaling = linear.requires_grad_(False), 32 / rank
        self.a_RI = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(rank, linear.in_features), a=math.sqrt(5)), requires_grad=not frozen)
        self.b_OR = nn.Parameter(torch.zeros(linear.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x) + self.scaling * functional.linear(functional.linear(x, self.a_RI), self.b_OR)
        return y

    def merged(self) -> nn.Linear:
        made = copy.deepcopy(self.linear)
        made.weight.data = made.weight + self.scaling * (self.b_OR @ self.a_RI).data
        return made


class Upper:
    """An encoder of BERT's family (MiniLM): states of its lower half, and vectors by copies of its upper half, without padding."""

    def __init__(self) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(ENCODER)
        self._model: Any = AutoModel.from_pretrained(ENCODER).float().eval().requires_grad_(False)
        layers = list(self._model.encoder.layer)
        self._lower, self.layers = layers[: len(layers) // 2], layers[len(layers) // 2 :]
        self.trained = [copy.deepcopy(layer).requires_grad_(True) for layer in self.layers]
        self._heads = self._model.config.num_attention_heads

    def adapt(self, rank: int, frozen: bool) -> None:
        """From now on adapters are tuned in place of the weights; all begin alike."""
        torch.manual_seed(1)
        self.trained = [copy.deepcopy(layer).requires_grad_(False) for layer in self.layers]
        for layer in self.trained:
            _replaced(layer, nn.Linear, lambda linear: Adapted(linear, rank, frozen))

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """(tokens, H) of each text above the lower half."""
        found: list[Any] = [None] * len(texts)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            read = self._tokenizer([texts[each] for each in part], padding=True, truncation=True, max_length=256, return_tensors="pt")
            mask_BT = read["attention_mask"].bool()
            embedded = self._model.embeddings(input_ids=read["input_ids"], token_type_ids=read.get("token_type_ids"))
            x_NH = embedded.reshape(-1, embedded.shape[-1])[mask_BT.view(-1)]
            for layer in self._lower:
                x_NH = self._layer(layer, x_NH, mask_BT, 0.0)
            for each, own in zip(part, x_NH.split(mask_BT.sum(1).tolist()), strict=True):
                found[each] = own.clone()
        return found

    def vectors(self, layers: Sequence[Any], states: Sequence[torch.Tensor], dropout: float = 0.0) -> torch.Tensor:
        """Vectors of length 1 (B, H)."""
        lengths_B = torch.tensor([len(each) for each in states])
        mask_BT, x_NH = torch.arange(int(lengths_B.max()))[None] < lengths_B[:, None], torch.cat(list(states))
        with torch.autocast("cpu", torch.bfloat16):
            for layer in layers:
                x_NH = self._layer(layer, x_NH, mask_BT, dropout)
        owner_N = torch.arange(len(states)).repeat_interleave(lengths_B)
        sums_BH = torch.zeros(len(states), x_NH.shape[1]).index_add(0, owner_N, x_NH.float())
        return functional.normalize(sums_BH / lengths_B[:, None], dim=-1)

    @torch.no_grad()
    def all_vectors(self, layers: Sequence[Any], states: Sequence[torch.Tensor]) -> torch.Tensor:
        """The same of many texts."""
        order, found = sorted(range(len(states)), key=lambda place: len(states[place])), dict[int, torch.Tensor]()
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            found |= dict(zip(part, self.vectors(layers, [states[each] for each in part]), strict=True))
        return torch.stack([found[place] for place in range(len(states))])

    def _layer(self, layer: Any, x_NH: torch.Tensor, mask_BT: torch.Tensor, dropout: float) -> torch.Tensor:
        places_N, attention = mask_BT.view(-1).nonzero().squeeze(1), layer.attention.self

        def padded(of: nn.Linear) -> torch.Tensor:
            y_NH = of(x_NH)
            whole = y_NH.new_zeros(mask_BT.numel(), y_NH.shape[1]).index_copy(0, places_N, y_NH)
            return whole.view(*mask_BT.shape, self._heads, -1).transpose(1, 2)

        def dropped(y: torch.Tensor) -> torch.Tensor:
            return functional.dropout(y.float(), dropout) if dropout else y.float()

        query, key, value = padded(attention.query), padded(attention.key), padded(attention.value)
        scores = (query @ key.transpose(-1, -2)).float() / math.sqrt(query.shape[-1])
        weights = dropped(scores.masked_fill(~mask_BT[:, None, None, :], -1e9).softmax(-1))
        read_NH = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(mask_BT.numel(), -1)[places_N]
        x_NH = layer.attention.output.LayerNorm(dropped(layer.attention.output.dense(read_NH)) + x_NH)
        return layer.output.LayerNorm(dropped(layer.output.dense(functional.gelu(layer.intermediate.dense(x_NH)))) + x_NH)


def _replaced(module: nn.Module, kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> None:
    for name, child in list(module.named_children()):
        setattr(module, name, make(child)) if isinstance(child, kind) else _replaced(child, kind, make)


def averaged_answers(rows: Drawn, passes: int, contrast: float, parts: int, adapter: str = "") -> list[str]:
    """What the averaged encoders, or averaged adapters, answer of the rows to compare by."""
    upper, labels = Upper(), rows.labels
    rank, times, kind = adapter.split(":") if adapter else ("0", "1", "")
    if adapter:
        upper.adapt(int(rank), kind == "frozen")
    names = upper.states([label.replace("_", " ") for label in labels])
    states, wanted_N = upper.states([row.text for row in rows.train]), torch.tensor([labels.index(row.target) for row in rows.train])
    own_N, made = _parts(rows.train, parts, rows.draw), []
    for part in range(ENCODERS):
        kept = [place for place in range(len(states)) if own_N[place] != part]
        shown = [states[place] for place in kept] + names
        wanted = torch.cat([wanted_N[kept], torch.arange(len(labels))])
        made.append(_tuned(upper, (shown, wanted, names), (passes, float(times)), contrast, 1000 * rows.draw + part))
        if kind == "exact":
            for layer in made[-1][0]:
                _replaced(layer, Adapted, Adapted.merged)
    layers = copy.deepcopy(made[0][0])
    for own, *others in zip(layers, *[each for each, _ in made], strict=True):
        for weight, *learned in zip(own.parameters(), *[each.parameters() for each in others], strict=True):
            weight.data = torch.stack([each.data for each in learned]).mean(0)
    prototypes_KH = torch.stack([each for _, each in made]).mean(0)
    found_NK = upper.all_vectors(layers, upper.states([row.text for row in rows.compared])) @ functional.normalize(prototypes_KH, dim=-1).T
    return [labels[place] for place in found_NK.argmax(1).tolist()]


def _tuned(
    upper: Upper, rows: tuple[list[torch.Tensor], torch.Tensor, list[torch.Tensor]], pace: tuple[int, float], contrast: float, seed: int
) -> Any:
    """A copy of the upper half, and prototypes of length 1. ``pace`` is how many passes, and how many times the rate."""
    torch.manual_seed(seed)
    passes, times = pace
    (states, wanted_N, names), layers = rows, copy.deepcopy(upper.trained)
    vectors_NH = upper.all_vectors(layers, states)
    sums_KH = torch.zeros(len(names), vectors_NH.shape[1]).index_add(0, wanted_N, vectors_NH)
    prototypes_KH = nn.Parameter(functional.normalize(sums_KH, dim=-1))
    weights = [weight for layer in layers for weight in layer.parameters() if weight.requires_grad]
    described = [{"params": weights, "rate": times}, {"params": [prototypes_KH], "rate": PROTOTYPES_RATE}]
    optimiser, steps, step = torch.optim.AdamW(described, weight_decay=0.0), passes * math.ceil(len(states) / BATCH), 0
    warm = math.ceil(0.1 * steps)
    for epoch in range(passes):
        order = list(range(len(states)))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            found_BH = upper.vectors(layers, [states[each] for each in part], DROPOUT)
            loss = functional.cross_entropy(found_BH @ functional.normalize(prototypes_KH, dim=-1).T / TEMPERATURE, wanted_N[part])
            if contrast:
                borne, places_B = torch.unique(wanted_N[part], return_inverse=True)
                named = upper.vectors(layers, [names[each] for each in borne.tolist()], DROPOUT)
                loss = loss + contrast * functional.cross_entropy(found_BH @ named.T / TEMPERATURE, places_B)
            loss.backward()
            nn.utils.clip_grad_norm_([*weights, prototypes_KH], 1.0)
            rate = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
            for group in optimiser.param_groups:
                group["lr"] = RATE * rate * group["rate"]
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            step += 1
    return [layer.requires_grad_(False) for layer in layers], functional.normalize(prototypes_KH.detach(), dim=-1)


def _parts(rows: Sequence[Row], parts: int, seed: int) -> list[int]:
    """The part of each row: the rows of a label are spread over all."""
    order = sorted(rows, key=lambda row: (row.target, hashlib.sha256(f"{seed}:fold:{row.id}".encode()).digest()))
    places = {row.id: place % parts for place, row in enumerate(order)}
    return [places[row.id] for row in rows]


def whole(rows: Drawn) -> Drawn:
    """With every row of the train file that is not learned to compare by."""
    texts: dict[str, set[str]] = defaultdict(set)
    with (DATA / "banking77" / "train.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            texts[line["category"]].add(line["text"].strip())
    known = {row.id for row in (*rows.train, *rows.compared)}
    rest = [row for label in sorted(texts) for text in sorted(texts[label]) if (row := _row(text, label)).id not in known]
    return replace(rows, compared=[*rows.compared, *rest])


def main() -> None:
    torch.set_num_threads(1)
    learned, passes = int(os.environ.get("LEARNED", "10")), int(os.environ.get("PASSES", "6"))
    contrast, parts = float(os.environ.get("CONTRAST", "0")), int(os.environ.get("PARTS", "20"))
    told, differences, items = [], list[float](), list[str]()
    for draw in map(int, os.environ.get("DRAWS", "2,3").split(",")):
        started, rows = time.perf_counter(), whole(drawn(draw, 77, learned))
        floor = fit_floor(rows.train, rows.labels, draw, embed=partial(open_encoder().embed, ENCODER))
        below = np.array([each.answer for each in floor.predict(rows.compared, 32)]) == np.array(rows.truth)
        above = np.array(averaged_answers(rows, passes, contrast, parts)) == np.array(rows.truth)
        for adapter in filter(None, os.environ.get("ADAPTERS", "").split(",")):
            began, truth = time.perf_counter(), np.array(rows.truth)
            adapted = np.array(averaged_answers(rows, passes, contrast, parts, adapter)) == truth
            low, high = paired_interval((adapted.astype(float) - above).tolist(), [row.group for row in rows.compared], 0.95)
            found = {"adapter": adapter, "accuracy": round(float(adapted.mean()), 4), "minus all weights": [round(low, 4), round(high, 4)]}
            print(found | {"seconds": round(time.perf_counter() - began)}, file=sys.stderr, flush=True)
        own = (above.astype(float) - below).tolist()
        groups = [row.group for row in rows.compared]
        low, high = paired_interval(own, groups, 0.95)
        told.append({"draw": draw, "compared": len(own), "floor": round(float(below.mean()), 4), "encoder": round(float(above.mean()), 4)})
        told[-1] |= {"low": round(low, 4), "high": round(high, 4), "seconds": round(time.perf_counter() - started)}
        print(told[-1], file=sys.stderr, flush=True)
        differences, items = differences + own, items + groups
    low, high = paired_interval(differences, items, 0.95)
    print(json.dumps({"learned": learned, "difference": float(np.mean(differences)), "low": low, "high": high, "draws": told}))


if __name__ == "__main__":
    main()
