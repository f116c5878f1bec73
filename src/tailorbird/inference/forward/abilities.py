"""Probe of a transformers model: what its own pass is seen to do exactly, on short texts and the weights that were read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.forward.module_adapter import RowRange
from tailorbird.inference.forward.sequence_caches import SequenceCache, apart, is_known, nbytes_of, stacked

_log = logging.getLogger("tailorbird.engine")


class Abilities(NamedTuple):
    """What transformers' pass of one model was seen to do exactly. ``caches``: going on from a cache equals computing the whole text;
    ``stacks``: sequences of several lengths in one step equal each alone; ``heads``: logits can be computed from hidden states apart from
    the decoder."""

    caches: bool = False
    stacks: bool = False
    heads: bool = False


#: Tokens of a probe: enough that a wrong state or mask is seen.
_LENGTH = 12
#: How far apart logits may lie, as a part of their spread: in 32 bits any of them; in fewer bits their root mean square over the
#: vocabulary, on average over positions. Rounding to 16 bits is seen at 0.012 there (14 random layers), where the largest of 600,000 logits
#: lay 0.056 apart, and may move a token to another expert at one position; a wrong state, mask or place lies beyond at all that follow it.
_FINE, _COARSE = 1e-3, 0.05
#: The same of each position but one.
_ASTRAY = 0.15
_ALONE = [RowRange(0, 1, None)]


def probe(forward: Any, coarse: bool, wish: Abilities) -> tuple[int, int]:
    """Sets what ``forward`` can do of its ``wish``; ``coarse`` where it computes in less than 32 bits. Bytes that one token leaves in a
    cache, and that a sequence takes beside.

    Raises ModelInvalid: it reads a text backwards too, as an encoder does.
    """
    probing = _Probe(forward, coarse)
    forward.abilities = Abilities()
    probing.read_whole()
    probing.check_causal()
    for name, attempt in (("heads", probing.heads), ("caches", probing.caches), ("stacks", probing.stacks)):
        if not getattr(wish, name) or (name == "stacks" and not forward.abilities.caches):
            continue
        before = forward.abilities
        forward.abilities = before._replace(**{name: True})
        if not probing.holds(name, attempt):
            _log.warning(
                "transformers' pass of this model is used without %s: it differs from computing whole texts, which is slower", name
            )
            forward.abilities = before
    return probing.sizes() if forward.abilities.caches else (1, 0)


class _Probe:
    """Two short random texts, as wholes and in pieces."""

    def __init__(self, forward: Any, coarse: bool) -> None:
        self._forward, self._coarse = forward, coarse
        generator = torch.Generator().manual_seed(11)
        drawn = torch.randint(0, forward.vocabulary, (2, _LENGTH), generator=generator).tolist()
        self._text, self._other = drawn[0], drawn[1][: _LENGTH - 5]
        self._whole: list[torch.Tensor] = []

    def read_whole(self) -> None:
        try:
            self._whole = [self._forward.logits(self._forward.computed([text], None, _ALONE)[0]) for text in (self._text, self._other)]
        except Exception as error:  # whatever transformers raises: its own pass cannot compute this model
            raise ModelInvalid(
                f"transformers cannot compute the model ({type(error).__name__})",
                "check its config.json, or try another version of transformers",
                code="model_unreadable",
            ) from error
        if not self._whole[0].isfinite().all():
            raise ModelInvalid(
                "the model gives numbers that are none", "fetch the model again: its weights are damaged", code="model_unreadable"
            )

    def check_causal(self) -> None:
        half = _LENGTH // 2
        changed = [*self._text[:half], *((token + 1) % self._forward.vocabulary for token in self._text[half:])]
        if not self._near(self._forward.logits(self._forward.computed([changed], None, _ALONE)[0])[:half], self._whole[0][:half]):
            raise ModelInvalid(
                "the model reads a text backwards too: it is an encoder, and writes nothing",
                "use it as an embedding model (rank, nearest, grounding), and a decoder as the base model",
                code="model_unsupported",
            )

    def holds(self, name: str, attempt: Callable[[], bool]) -> bool:
        try:
            return attempt()
        except Exception as error:  # noqa: BLE001 - whatever transformers raises: it cannot be used in this way
            _log.debug("transformers' pass cannot be used with %s: %s", name, type(error).__name__)
            return False

    def heads(self) -> bool:
        return self._near(self._forward.logits(self._forward.computed([self._text], None, _ALONE)[0]), self._whole[0])

    def caches(self) -> bool:
        cache = self._forward.fresh_cache()
        rows = [self._forward.computed([self._text[:5]], cache, _ALONE)[0]]
        # A model that keeps its state in itself, and not in the cache, goes on with the text that came between.
        self._forward.computed([self._other], self._forward.fresh_cache(), _ALONE)
        ends = [5, 8, *range(9, _LENGTH + 1)]
        rows += [self._forward.computed([self._text[start:stop]], cache, _ALONE)[0] for start, stop in pairwise(ends)]
        return is_known(cache) and self._near(self._forward.logits(torch.cat(rows)), self._whole[0])

    def stacks(self) -> bool:
        rows, texts = [], (self._text, self._other)
        for text in texts:
            rows.append(SequenceCache(self._forward.fresh_cache(), text, len(text) - 3))
            self._forward.computed([text[:-3]], rows[-1].content, _ALONE)
        stack = stacked(rows)
        for back in (3, 2):
            found = self._forward.stepped([[text[-back]] for text in texts], stack, [RowRange(0, 2, None)])
            for row in rows:
                row.length += 1
            if not all(self._near(self._forward.logits(found[at]), whole[-back:][:1]) for at, whole in enumerate(self._whole)):
                return False
        apart(stack)
        last = [
            self._forward.logits(self._forward.computed([text[-1:]], row.content, _ALONE)[0]) for text, row in zip(texts, rows, strict=True)
        ]
        return all(self._near(found, whole[-1:]) for found, whole in zip(last, self._whole, strict=True))

    def sizes(self) -> tuple[int, int]:
        sizes = []
        for length in (_LENGTH // 2, _LENGTH):
            cache = self._forward.fresh_cache()
            self._forward.computed([self._text[:length]], cache, _ALONE)
            sizes.append(nbytes_of(cache))
        token = max(1, (sizes[1] - sizes[0]) // (_LENGTH - _LENGTH // 2))
        return token, max(0, sizes[1] - token * _LENGTH)

    def _near(self, found: torch.Tensor, wanted: torch.Tensor) -> bool:
        off = found - wanted
        if self._coarse:
            rows = (off.float().pow(2).mean(-1).sqrt() / wanted.float().std()).sort().values
            return bool(rows.mean() <= _COARSE and (rows[:-1] <= _ASTRAY).all())
        return bool(off.abs().max() <= _FINE * wanted.std())
