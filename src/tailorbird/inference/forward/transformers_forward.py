"""Forward pass by transformers' own model and cache classes, for every decoder that has no written-out pass."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

from tailorbird.base_models.adapter_format import refused_adapter
from tailorbird.inference.forward.abilities import Abilities, probe
from tailorbird.inference.forward.batch import Batch, Part
from tailorbird.inference.forward.model_folder import decoder_of
from tailorbird.inference.forward.module_adapter import AdapterHooks, ModuleAdapter, RowRange, read_module_adapter
from tailorbird.inference.forward.sequence_caches import CacheStore, SequenceCache, StackedCache, nbytes_of, repeated
from tailorbird.inference.forward.weights import MOVING, LinearShapes
from tailorbird.inference.output_head import head_of
from tailorbird.inference.scheduling import BLOCK, SequenceNeeds
from tailorbird.inference.text.label_tree import LabelTrie

#: Bytes that the copies of a prompt's cache may take while labels are scored on it.
_COPIES = 128 * 2**20
#: Bytes that adapters which are computed together may take a second time, where a sixteenth of the weights is less.
_JOINED = 128 * 2**20
#: Bytes that shorter rows of a stack may be filled up with, beside what they have.
_FILLED = 64 * 2**20
#: More tokens than any text has.
_ALWAYS = 2**62
#: Context of a model whose config names none.
_NO_LIMIT = 131_072


class TransformersForward:
    """A ``Forward`` by transformers. ``memory`` is a store of caches by sequence; blocks only count."""

    kernels = "transformers"

    def __init__(self, model: Any) -> None:
        self._model = model
        self._decoder = decoder_of(model)
        config = model.config.get_text_config(decoder=True)
        self._config = config
        self.context: int = _context(config)
        self.layers: int = config.num_hidden_layers
        self.linears: LinearShapes = {}
        self.vocabulary: int = model.get_input_embeddings().weight.shape[0]
        self.nbytes = sum(tensor.nbytes for tensor in {id(each): each for each in (*model.parameters(), *model.buffers())}.values())
        self._device = next(model.parameters()).device
        self._dtype: torch.dtype = next(each.dtype for each in model.parameters() if each.is_floating_point())
        known = inspect.signature(self._decoder.forward).parameters
        self._cache_name = next((name for name in ("cache", "past_key_values", "cache_params") if name in known), None)
        self._positions = "position_ids" in known
        self._without_cache = {"use_cache": False} if "use_cache" in known else {}
        self._hooks = AdapterHooks(model, max(_JOINED, self.nbytes // 16))
        # Adapters are read, and likelihoods made of logits, by other threads than the one that computes steps.
        self._computing = threading.RLock()
        self._head, self._states = head_of(model)
        self.abilities = Abilities()
        #: Tokens up to which the angles of positions are the same for texts of all lengths.
        self._steady = _steady(config)
        self._rotations = [each for each in model.modules() if hasattr(each, "original_max_seq_len")] if self._steady < _ALWAYS else []
        wish = Abilities(caches=self._cache_name is not None, stacks=self._steady == _ALWAYS, heads=self._states is not None)
        with torch.inference_mode():
            token, fixed = probe(self, self._dtype.itemsize < 4, wish)
        # Where a token leaves nothing behind, what it takes while it is computed counts.
        self.token_nbytes = max(token, config.hidden_size * self._dtype.itemsize)
        self.needs = SequenceNeeds(shares=False, whole=not self.abilities.caches, blocks=-(-fixed // (self.token_nbytes * BLOCK)))

    def memory(self, blocks: int) -> CacheStore:
        """A store of caches; what they take is bounded by the blocks that the scheduler gives out."""
        del blocks
        return CacheStore()

    def release(self, memory: CacheStore, blocks: Sequence[int]) -> None:
        """A sequence is over. May be called by any thread."""
        if blocks:
            memory.release(blocks[0])

    def read_adapter(self, folder: Path) -> ModuleAdapter:
        """The adapter in a folder. Raises ModelInvalid, also where a layer that it changes is never computed by its module."""
        adapter = read_module_adapter(folder, self._model, self._dtype)
        with self._computing, torch.inference_mode():
            self._hooks.cover(adapter)
            with self._hooks.applied([RowRange(0, 1, adapter)], 1, 2):
                self._decoder(input_ids=torch.zeros((1, 2), dtype=torch.long, device=self._device))
                unreached = adapter.deltas.keys() - self._hooks.reached
        if unreached:
            raise refused_adapter(
                folder, f"{sorted(unreached)[0]} takes no part in reading text, so that the adapter would do nothing there"
            )
        return adapter

    def hidden(self, batch: Batch, memory: CacheStore) -> torch.Tensor:
        """Hidden states of the wanted tokens, or their logits where the two cannot be told apart."""
        found: list[torch.Tensor | None] = [None] * len(batch.parts)
        together: list[tuple[int, SequenceCache]] = []
        for at, part in enumerate(batch.parts):
            goes_on = part.start and part.start + len(part.tokens) <= self._steady
            cache = memory.find(part.blocks[0], part.history, part.start) if goes_on else None
            if cache is not None and len(part.tokens) == 1 and part.tree is None and self.abilities.stacks:
                together.append((at, cache))
            else:
                found[at] = self._alone(part, cache, memory)
        for group in self._groups(batch.parts, together):
            for (at, _), row in zip(
                group, self._step([batch.parts[at] for at, _ in group], [row for _, row in group], memory), strict=True
            ):
                found[at] = row if batch.parts[at].watched <= batch.parts[at].start else row[:0]
        return torch.cat([each for each in found if each is not None])

    def logits(self, hidden_ME: torch.Tensor) -> torch.Tensor:
        """Logits (MV, fp32) of the tokens that could follow."""
        if not self.abilities.heads:
            return hidden_ME.float()
        assert self._states is not None
        with self._computing:
            self._states.hidden = hidden_ME.unsqueeze(0)
            ids = torch.zeros((1, len(hidden_ME)), dtype=torch.long, device=self._device)
            try:
                logits: torch.Tensor = self._head(input_ids=ids).logits[0]
            finally:
                self._states.hidden = None
        return logits.float()

    def _groups(self, parts: Sequence[Part], rows: list[tuple[int, SequenceCache]]) -> list[list[tuple[int, SequenceCache]]]:
        """Sequences that are computed in one step. Rows are filled up to the longest: where that takes much, those of lengths within a
        factor of two stand together, whose stack takes at most twice what its rows do."""
        longest = max((cache.length for _, cache in rows), default=0)
        much = sum(longest - cache.length for _, cache in rows) * self.token_nbytes > _FILLED
        groups: dict[int, list[tuple[int, SequenceCache]]] = {}
        for at, cache in rows:
            groups.setdefault(cache.length.bit_length() if much else 0, []).append((at, cache))
        # Rows of one adapter stand beside one another, in every step alike.
        return [sorted(group, key=lambda row: id(parts[row[0]].adapter)) for group in groups.values()]

    def _alone(self, part: Part, cache: SequenceCache | None, memory: CacheStore) -> torch.Tensor:
        """The wanted rows of one part, whose tokens come one chunk after what the cache holds; without a cache, from the first token."""
        stop = part.start + len(part.tokens)
        if cache is None:
            cache = SequenceCache(self.fresh_cache(), part.history, 0)
        first = cache.length
        memory.keep(part.blocks[0], cache)
        try:
            content = memory.alone(cache)
            hidden_TE = self.computed([part.history[first:stop]], content, [RowRange(0, 1, part.adapter)])[0]
        except BaseException:
            memory.discard(cache)
            raise
        cache.length = stop if self.abilities.caches else -1
        wanted = [hidden_TE[max(part.watched, part.start) - first :]]
        if part.tree is not None and part.tree.tokens:
            # Rows of a tree's nodes: each path from the prompt to a leaf is one row of tokens, filled up behind its end.
            tree = part.tree
            parents = set(tree.parents)
            paths = [_path(tree, leaf) for leaf in range(len(tree.tokens)) if leaf not in parents]
            goes_on = self._goes_on(part, max(map(len, paths)))
            most = max(1, _COPIES // max(1, nbytes_of(content))) if goes_on else 1
            found: dict[int, torch.Tensor] = {}
            for start in range(0, len(paths), most):
                some = paths[start : start + most]
                tokens = [[tree.tokens[node] for node in path] for path in some]
                for path, row in zip(some, self._below(tokens, part, content), strict=True):
                    found.update(zip(path, row, strict=False))
            wanted.append(torch.stack([found[node] for node in range(len(tree.tokens))]))
        return torch.cat(wanted)

    def _step(self, parts: list[Part], rows: list[SequenceCache], memory: CacheStore) -> torch.Tensor:
        """One more token of each sequence (B1E as BE rows), all in one pass."""
        try:
            stack = memory.stack(rows)
            hidden_BTE = self.stepped([part.tokens for part in parts], stack, _ranges(parts))
        except BaseException:
            for row in rows:
                memory.discard(row)
            raise
        for row in rows:
            row.length += 1
        return hidden_BTE

    def _below(self, tokens: list[list[int]], part: Part, prompt: Any) -> torch.Tensor:
        """Hidden states (BTE) of rows of tokens, each as if it alone came after the prompt."""
        deepest = max(map(len, tokens))
        filled = [[*row, *[0] * (deepest - len(row))] for row in tokens]
        ranges = [RowRange(0, len(filled), part.adapter)]
        if not self._goes_on(part, deepest):
            stop = part.start + len(part.tokens)
            whole = [[*part.history[:stop], *row] for row in filled]
            return self.computed(whole, None, ranges)[:, stop:]
        return self.computed(filled, repeated(prompt, len(filled)), ranges)

    def _goes_on(self, part: Part, tokens: int) -> bool:
        """True where so many tokens after a part can be computed from its cache."""
        return self.abilities.caches and part.start + len(part.tokens) + tokens <= self._steady

    def stepped(self, tokens: Sequence[Sequence[int]], stack: StackedCache, ranges: list[RowRange]) -> torch.Tensor:
        """Hidden states (B1E) of one more token of each row of a stack, whose rows' lengths are those before."""
        lengths, longest = [row.length for row in stack.rows], stack.longest
        positions = torch.tensor([[length] for length in lengths], device=self._device)
        if min(lengths) == longest:
            return self.computed(tokens, stack.content, ranges, positions)
        mask = (torch.arange(longest + 1) >= torch.tensor([[longest - length] for length in lengths])).long().to(self._device)
        return self.computed(tokens, stack.content, ranges, positions, attention_mask=mask)

    def computed(
        self, tokens: Sequence[Sequence[int]], cache: Any, ranges: list[RowRange], positions: Any = None, **masks: torch.Tensor
    ) -> torch.Tensor:
        """Hidden states (BTE), or logits (BTV) where these cannot be computed apart; ``cache`` grows."""
        ids = torch.tensor([list(row) for row in tokens], dtype=torch.long, device=self._device)
        given: dict[str, Any] = dict(masks)
        if cache is not None and self._cache_name is not None and self.abilities.caches:
            given |= {self._cache_name: cache, "use_cache": True}
        else:
            given |= self._without_cache
        if positions is not None and self._positions:
            given["position_ids"] = positions
        with self._computing, self._hooks.applied(ranges, *ids.shape):
            for each in self._rotations:
                # A rotary embedding of the dynamic kind turns by the longest text that it has seen since a short one, whosever
                # that was.
                for name in [name for name in (*vars(each), *each._buffers) if name.endswith("original_inv_freq")]:
                    prefix = name.removesuffix("original_inv_freq")
                    kind = each.rope_type if isinstance(each.rope_type, str) else each.rope_type[prefix.removesuffix("_")]
                    if "dynamic" in kind:
                        each.register_buffer(
                            f"{prefix}inv_freq", getattr(each, name).to(getattr(each, f"{prefix}inv_freq").device), persistent=False
                        )
                        setattr(each, f"{prefix}max_seq_len_cached", each.original_max_seq_len)
            if self.abilities.heads:
                hidden: torch.Tensor = self._decoder(input_ids=ids, **given).last_hidden_state
                return hidden
            logits: torch.Tensor = self._model(input_ids=ids, **given).logits
            return logits

    def fresh_cache(self) -> Any:
        """An empty cache of one sequence."""
        return DynamicCache(config=self._config)


def _ranges(parts: Sequence[Part]) -> list[RowRange]:
    ranges: list[RowRange] = []
    for at, part in enumerate(parts):
        if ranges and ranges[-1].adapter is part.adapter:
            ranges[-1] = RowRange(ranges[-1].start, at + 1, part.adapter)
        else:
            ranges.append(RowRange(at, at + 1, part.adapter))
    return ranges


def _path(tree: LabelTrie, leaf: int) -> list[int]:
    path = [leaf]
    while tree.parents[path[-1]] >= 0:
        path.append(tree.parents[path[-1]])
    return path[::-1]


def _context(config: Any) -> int:
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(found := getattr(config, name, None), int) and found > 0:
            return found
    return _NO_LIMIT


def _steady(config: Any) -> int:
    """Tokens up to which the angles of positions do not depend on a text's length. Two lengths beyond share neither step nor cache."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(each for each in rope.values() if isinstance(each, dict))]
    moving = [each for each in kinds if each.get("rope_type") in MOVING]
    named = [getattr(config, "original_max_position_embeddings", None), *(each.get("original_max_position_embeddings") for each in moving)]
    return min(_context(config), *(int(each) for each in named if each)) if moving else _ALWAYS
