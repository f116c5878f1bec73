"""Forward pass in torch for any processor, in bf16 or fp32: the reference for the native one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from tailorbird.inference.forward.batch import Batch
from tailorbird.inference.forward.decoder_traits import BlockNorms, block_norms, norm_weight, traits_of
from tailorbird.inference.forward.lazy_memory import lazy_zeros
from tailorbird.inference.forward.module_adapter import LowRank
from tailorbird.inference.forward.weights import GROUPS, Changes, WrittenOutForward, joined, linear_shapes
from tailorbird.inference.scheduling import BLOCK
from tailorbird.training.devices import is_gpu


class Linear(NamedTuple):
    """Weight and bias of linear layers that read the same input, their outputs side by side."""

    weight_OI: torch.Tensor
    bias_O: torch.Tensor | None

    def __call__(self, x_NI: torch.Tensor) -> torch.Tensor:
        """Outputs (NO)."""
        return F.linear(x_NI, self.weight_OI, self.bias_O)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.weight_OI.nbytes + (0 if self.bias_O is None else self.bias_O.nbytes)


class TorchAdapter:
    """The changes that an adapter makes, by (layer, group)."""

    def __init__(self, deltas: dict[tuple[int, str], LowRank]) -> None:
        self.deltas = deltas

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(delta.down_RI.nbytes + delta.up_OR.nbytes for delta in self.deltas.values())


class DecoderBlock(NamedTuple):
    """The weights of one decoder block."""

    norms: BlockNorms
    groups: dict[str, Linear]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.norms.nbytes + sum(group.nbytes for group in self.groups.values())


class _Look(NamedTuple):
    """Queries of some rows together: which slots they read, and which of them each row may see."""

    rows: torch.Tensor
    slots_BK: torch.Tensor
    bias_BTK: torch.Tensor


class TorchForward(WrittenOutForward):
    """A causal language model laid out like a Llama, with norms, windows and positions as it has them. Holds weights only."""

    kernels = "plain"

    def __init__(self, model: Any) -> None:
        config = model.config
        weights = model.get_input_embeddings().weight.detach()
        self.context: int = config.max_position_embeddings
        self.layers = config.num_hidden_layers
        self.linears = linear_shapes(model)
        self.vocabulary: int = len(weights)
        self._heads = (config.num_attention_heads, config.num_key_value_heads, model.model.layers[0].self_attn.head_dim)
        self._epsilon: float = config.rms_norm_eps
        self._traits = traits_of(model)
        self._embedding_VE = weights
        self._head_VE = model.lm_head.weight.detach()
        self._norm_E = norm_weight(model.model.norm)
        self._blocks = [_block(layer) for layer in model.model.layers]
        self._dtype, self._device = weights.dtype, weights.device
        head = 0 if self._head_VE.data_ptr() == weights.data_ptr() else self._head_VE.nbytes
        tables = sum(table.nbytes for table in self._traits.positions)
        self.nbytes = weights.nbytes + head + self._norm_E.nbytes + tables + sum(block.nbytes for block in self._blocks)
        self.token_nbytes = self.layers * 2 * self._heads[1] * self._heads[2] * weights.element_size()

    def memory(self, blocks: int) -> torch.Tensor:
        """Room for the keys and values of ``blocks`` blocks (layers, 2, slots, H, D)."""
        _, heads, size = self._heads
        shape = (self.layers, 2, blocks * BLOCK, heads, size)
        if not is_gpu(self._device):
            return lazy_zeros(*shape, dtype=self._dtype)
        return torch.zeros(shape, dtype=self._dtype, device=self._device)

    def adapt(self, changes: Changes) -> TorchAdapter:
        """An adapter laid out for this pass: all A matrices of a group under one another, the B matrices on a block diagonal."""
        deltas = {}
        for layer in {layer for layer, _ in changes}:
            for group, names in GROUPS.items():
                present = {name: changes[layer, name] for name in names if (layer, name) in changes}
                if present:
                    down_RI = torch.cat([change.down_RI.float() for change in present.values()])
                    ups = [
                        present[name].scaled_up_OR if name in present else torch.zeros(self.linears[name][1], 0) for name in names
                    ]  # a layer that is left alone has rows and no columns
                    deltas[layer, group] = LowRank(*(each.to(self._dtype).to(self._device) for each in (down_RI, _diagonal(ups))))
        return TorchAdapter(deltas)

    def hidden(self, batch: Batch, memory: torch.Tensor) -> torch.Tensor:
        """Hidden states (ME) of the wanted tokens after the last norm; keys and values of all tokens are laid into ``memory``."""
        # The running sum over layers is kept in fp32: in bf16 its rounding alone doubles the error of a score.
        told = self._traits
        x_NE = F.embedding(self._tensor(batch.tokens), self._embedding_VE).float() * told.embedding_scale
        positions, slots = self._tensor(batch.positions), self._tensor(batch.slots)
        looks = {window: self._looks(batch, window) for window in set(told.windows)}
        turns = [(table.cos_PD[positions].unsqueeze(1), table.sin_PD[positions].unsqueeze(1)) for table in told.positions]
        for layer, (norms, _) in enumerate(self._blocks):
            turn = turns[told.tables[layer]]
            mixed_NHD = self._linear(batch, layer, "qkv", self._normed(x_NE, norms.attention)).view(len(x_NE), -1, self._heads[2])
            queries, keys, values = torch.split(mixed_NHD, [self._heads[0], self._heads[1], self._heads[1]], dim=1)
            queries, keys = self._after(queries, norms.query), self._after(keys, norms.key)
            memory[layer, 0, slots], memory[layer, 1, slots] = _turned(keys, turn), values
            attended_NE = self._attend(_turned(queries, turn), memory[layer], looks[told.windows[layer]])
            x_NE = x_NE + self._after(self._linear(batch, layer, "out", attended_NE), norms.attention_after)
            gate, up = self._linear(batch, layer, "gate_up", self._normed(x_NE, norms.mlp)).chunk(2, dim=-1)
            x_NE = x_NE + self._after(self._linear(batch, layer, "down", told.activation(gate) * up), norms.mlp_after)
        return self._normed(x_NE[self._tensor(batch.wants)], self._norm_E)

    def logits(self, hidden_ME: torch.Tensor) -> torch.Tensor:
        """Logits (MV, fp32) of the tokens that could follow."""
        return F.linear(hidden_ME, self._head_VE).float()

    def _linear(self, batch: Batch, layer: int, group: str, x_NI: torch.Tensor) -> torch.Tensor:
        """A group's outputs, the rows of each adapter changed by it: one A and one B product an adapter."""
        y_NO = self._blocks[layer].groups[group](x_NI)
        for start, stop, adapter in batch.groups:
            delta = adapter.deltas.get((layer, group)) if adapter else None
            if delta is not None:
                y_NO[start:stop] += F.linear(F.linear(x_NI[start:stop], delta.down_RI), delta.up_OR)
        return y_NO

    def _attend(self, queries_NHD: torch.Tensor, store_2SHD: torch.Tensor, looks: list[_Look]) -> torch.Tensor:
        """Grouped-query attention. Query heads that share a key head are folded into one run of queries, so that keys are never copied."""
        all_heads, heads, size = self._heads
        out_NE = queries_NHD.new_empty(len(queries_NHD), all_heads * size)
        for rows, slots_BK, bias_BTK in looks:
            sequences, length = len(slots_BK), len(rows) // len(slots_BK)
            keys, values = store_2SHD[0, slots_BK].transpose(1, 2), store_2SHD[1, slots_BK].transpose(1, 2)
            split = queries_NHD[rows].view(sequences, length, heads, -1, size)
            folded = split.permute(0, 2, 3, 1, 4).reshape(sequences, heads, -1, size)
            bias = bias_BTK.unsqueeze(1).expand(-1, all_heads // heads, -1, -1).reshape(sequences, 1, -1, bias_BTK.shape[2])
            out = F.scaled_dot_product_attention(folded, keys, values, attn_mask=bias, scale=self._traits.attention_scale)
            out_NE[rows] = out.view(sequences, heads, -1, length, size).permute(0, 3, 1, 2, 4).reshape(len(rows), -1)
        return out_NE

    def _looks(self, batch: Batch, window: int) -> list[_Look]:
        """Sequences that go on by one token look together, padded; every other one by itself."""
        single = [start for start, stop in batch.runs if stop == start + 1]
        looks = [self._look_together(batch, single, window)] if single else []
        return looks + [self._look_alone(batch, start, stop, window) for start, stop in batch.runs if stop > start + 1]

    def _look_together(self, batch: Batch, rows: list[int], window: int) -> _Look:
        contexts = batch.contexts[rows]
        places = np.arange(contexts.max())
        slots = np.empty((len(rows), len(places)), np.int64)
        for at, row in enumerate(rows):
            own = _slots(batch, row, contexts[at])
            # Filled up from the row's own memory: a masked score still is NaN times zero where another row's numbers are not finite.
            slots[at, : contexts[at]], slots[at, contexts[at] :] = own, own[0]
        seen = (places < contexts[:, None]) & (places >= _first(batch, window)[rows, None])
        return self._look(np.asarray(rows), slots, seen[:, None])

    def _look_alone(self, batch: Batch, start: int, stop: int, window: int) -> _Look:
        contexts = batch.contexts[start:stop]
        own = _slots(batch, start, contexts.max())
        nodes = batch.slots[start:stop][batch.branch_count[start:stop] > 0]
        places = np.arange(len(own))
        text = (places < contexts[:, None]) & (places >= _first(batch, window)[start:stop, None])
        seen = np.concatenate([text, np.zeros((stop - start, len(nodes)), bool)], axis=1)
        for row in range(start, stop):
            end = batch.branch_at[row] + batch.branch_count[row]
            first = max(batch.branch_at[row], end - window) if window else batch.branch_at[row]
            seen[row - start, len(own) :] = np.isin(nodes, batch.branches[first:end])
        return self._look(np.arange(start, stop), np.concatenate([own, nodes])[None], seen[None])

    def _look(self, rows: Any, slots_BK: Any, seen_BTK: Any) -> _Look:
        seen = self._tensor(seen_BTK)
        bias = torch.zeros(seen.shape, dtype=self._dtype, device=self._device).masked_fill_(~seen, float("-inf"))
        return _Look(self._tensor(rows), self._tensor(slots_BK), bias)

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(array, bool if array.dtype == bool else np.int64)).to(self._device)

    def _after(self, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """What follows a product: its norm, where there is one."""
        return x if weight is None else self._normed(x.float(), weight)

    def _normed(self, x: torch.Tensor, weight_E: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, weight_E.shape, weight_E, self._epsilon).to(self._dtype)


def _diagonal(ups: list[torch.Tensor]) -> torch.Tensor:
    diagonal: Any = torch.block_diag
    joint: torch.Tensor = diagonal(*ups)
    return joint


def _first(batch: Batch, window: int) -> Any:
    """The place of the first token that each row sees."""
    return batch.positions - window + 1 if window else np.zeros_like(batch.positions)


def _slots(batch: Batch, row: int, context: int) -> Any:
    """The slots of the first ``context`` tokens of a row's sequence."""
    places = np.arange(context)
    return batch.tables[batch.table_at[row] + places // BLOCK] * BLOCK + places % BLOCK


def _turned(x_NHD: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary position embedding in transformers' layout: the two halves of a head are the two parts of a plane."""
    cos_N1D, sin_N1D = turn
    left, right = x_NHD.chunk(2, dim=-1)
    return (x_NHD * cos_N1D + torch.cat((-right, left), dim=-1) * sin_N1D).to(x_NHD.dtype)


def _block(layer: Any) -> DecoderBlock:
    return DecoderBlock(block_norms(layer), {group: Linear(*joined(layer, group)) for group in GROUPS})
