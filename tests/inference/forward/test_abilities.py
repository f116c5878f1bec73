"""Probe of a pass: rounding is told from an error, whatever the size of the vocabulary."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

from tailorbird.inference.forward.abilities import Abilities, probe
from tailorbird.inference.forward.module_adapter import RowRange

VOCABULARY = 50_000
WISH = Abilities(caches=True)


class Summing:
    """Logits of a position are what its tokens have said up to there. ``noise`` is added where a cache is gone on from, as a part of the
    logits' spread; ``forgets`` leaves out what the cache held; ``astray`` is one position that lies far off, as by another expert."""

    abilities = Abilities()
    vocabulary = VOCABULARY

    def __init__(self, noise: float = 0.0, forgets: bool = False, astray: bool = False) -> None:
        self._noise, self._forgets, self._astray = noise, forgets, astray
        self._drawn = torch.Generator().manual_seed(3)

    def fresh_cache(self) -> Any:
        return DynamicCache()

    def computed(self, tokens: Any, cache: Any, ranges: list[RowRange]) -> torch.Tensor:
        said = torch.stack([torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(token)) for token in tokens[0]])
        if cache is None:
            return said.cumsum(0)[None]
        held = cache.layers[0].keys[0, 0].sum(0) if cache.layers else torch.zeros(VOCABULARY)
        begun = bool(cache.layers)
        cache.update(said[None, None], said[None, None], 0)
        rows = said.cumsum(0) + (0.0 if self._forgets else held)
        rows = rows + self._noise * rows.std() * torch.randn(rows.shape, generator=self._drawn)
        if self._astray and begun:
            rows[0] += 0.3 * rows.std() * torch.randn(VOCABULARY, generator=self._drawn)
            self._astray = False
        return rows[None]

    def stepped(self, tokens: Any, stack: Any, ranges: list[RowRange]) -> torch.Tensor:
        raise AssertionError("nobody wished for stacks")

    def logits(self, hidden_ME: torch.Tensor) -> torch.Tensor:
        return hidden_ME


def abilities(forward: Summing, coarse: bool) -> Abilities:
    probe(forward, coarse, WISH)
    return forward.abilities


@pytest.mark.parametrize("coarse", [False, True])
def test_a_pass_that_goes_on_from_caches_may_use_them(coarse: bool) -> None:
    assert abilities(Summing(), coarse) == WISH


def test_rounding_to_16_bits_is_no_error_though_one_logit_in_many_lies_far_off() -> None:
    assert abilities(Summing(noise=0.015), True) == WISH


def test_the_same_in_32_bits_is_one() -> None:
    assert abilities(Summing(noise=0.015), False) == Abilities()


@pytest.mark.parametrize("coarse", [False, True])
def test_a_pass_that_forgets_what_its_cache_held_reads_whole_texts(coarse: bool) -> None:
    assert abilities(Summing(forgets=True), coarse) == Abilities()
