"""Attention over a tree: many rows that begin alike, with their common beginning computed once.

In: queries, keys and values of one packed row ``[prefix | suffix 1 | suffix 2 | …]`` and the lengths of its parts. Out: what each token
attends to: the prefix, and the earlier tokens of its own suffix. Must not know: tokens, losses, adapters.

A dense mask over the whole row would cost the square of its length, although a suffix never looks at another one. So the row is cut into
blocks of neighbouring tokens; a block attends to the part of the prefix before it and, under a mask, to itself. The result is that of the
dense mask. On the CPU a block is five matmuls and a softmax: the stock kernel of torch 2.13 takes 2.5 times as long forward and 5 times
backward (bf16, 192 queries, 572 keys, one core).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

#: The name under which transformers finds this attention.
TREE_ATTENTION = "tailorbird_tree"

#: Tokens of a block, where suffixes are short enough. Measured on one AVX-512 core: flat between 48 and 128, worse above.
_BLOCK_TOKENS = 96

#: Probabilities of a layer are kept for the backward pass up to this many; above, they are computed again. 4 Mi of bf16 are 8 MiB a layer.
_KEPT_PROBABILITIES = 4 * 2**20


@dataclass(frozen=True)
class Block:
    """Tokens ``start`` to ``stop``, which see the first ``seen`` tokens of the row and, where ``mask_QQ`` is 0 and not -inf, each other."""

    seen: int
    start: int
    stop: int
    mask_QQ: torch.Tensor


@dataclass(frozen=True)
class Tree:
    """How a packed row is divided. ``pairs`` counts the (query, key) pairs that are not masked; ``dtype`` is that of queries."""

    blocks: tuple[Block, ...]
    pairs: int
    dtype: torch.dtype

    @property
    def computed_pairs(self) -> int:
        """Pairs that are computed, the masked ones of a block among them."""
        return sum((block.stop - block.start) * (block.seen + block.stop - block.start) for block in self.blocks)


def grow_tree(prefix: int, suffixes: list[int], dtype: torch.dtype, device: torch.device) -> Tree:
    """The tree of a prefix and suffixes of the given lengths, with masks in the type and on the device of the queries."""
    blocks = []
    for start in range(0, prefix, _BLOCK_TOKENS):
        stop = min(start + _BLOCK_TOKENS, prefix)
        blocks.append(Block(start, start, stop, _block_mask([stop - start], dtype).to(device)))
    start = prefix
    for lengths in _gather(suffixes):
        stop = start + sum(lengths)
        blocks.append(Block(prefix, start, stop, _block_mask(lengths, dtype).to(device)))
        start = stop
    pairs = prefix * (prefix + 1) // 2 + sum(n * prefix + n * (n + 1) // 2 for n in suffixes)
    return Tree(tuple(blocks), pairs, dtype)


def _gather(suffixes: list[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for length in suffixes:
        if groups and sum(groups[-1]) + length <= _BLOCK_TOKENS:
            groups[-1].append(length)
        else:
            groups.append([length])
    return groups


def _block_mask(lengths: list[int], dtype: torch.dtype) -> torch.Tensor:
    owner_Q = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    own_QQ = (owner_Q[:, None] == owner_Q[None, :]).tril()
    return torch.zeros(own_QQ.shape, dtype=dtype).masked_fill_(~own_QQ, float("-inf"))


@dataclass(frozen=True)
class Kept:
    """What a backward pass needs besides queries, keys and values; ``probabilities`` are empty where they are computed again."""

    tree: Tree
    scale: float
    probabilities: tuple[torch.Tensor, ...]


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tree: Tree, scale: float, differentiated: bool
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """softmax(q kᵀ · scale + mask) v for each block, as matmuls; ``G`` key heads serve ``R`` query heads each.

    ``query`` (G·R, T, D), ``key`` and ``value`` (G, T, D) give (T, G·R, D), and the probabilities where they are kept.
    """
    out_THD = torch.empty(query.shape[1], query.shape[0], query.shape[2], dtype=query.dtype, device=query.device)
    keep = differentiated and query.shape[0] * tree.computed_pairs <= _KEPT_PROBABILITIES
    kept = []
    for block in tree.blocks:
        keys_GKD, values_GKD = _seen(key, block), _seen(value, block)
        p_GQK = _probabilities(_queries(query, block, key.shape[0]), keys_GKD, block, scale)
        _put(out_THD, block, p_GQK @ values_GKD)
        if keep:
            kept.append(p_GQK)
    return out_THD, kept


def attend_backward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, upstream_THD: torch.Tensor, kept: Kept
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of queries (T, G·R, D), keys and values (G, T, D; summed over blocks, in fp32)."""
    grad_HTD, groups = upstream_THD.transpose(0, 1), key.shape[0]
    grad_q_THD = torch.empty(query.shape[1], query.shape[0], query.shape[2], dtype=query.dtype, device=query.device)
    grad_k, grad_v = torch.zeros(key.shape, device=key.device), torch.zeros(value.shape, device=value.device)
    for place, block in enumerate(kept.tree.blocks):
        q_GQD, keys_GKD, values_GKD = _queries(query, block, groups), _seen(key, block), _seen(value, block)
        p_GQK = kept.probabilities[place] if kept.probabilities else _probabilities(q_GQD, keys_GKD, block, kept.scale)
        up_GQD = _queries(grad_HTD, block, groups)
        grad_p_GQK = up_GQD @ values_GKD.transpose(1, 2)
        # The derivative of a softmax: p · (dp - Σ p dp), in one pass.
        grad_s_GQK = torch._softmax_backward_data(grad_p_GQK, p_GQK, -1, p_GQK.dtype)
        _put(grad_q_THD, block, (grad_s_GQK @ keys_GKD).mul_(kept.scale))
        _add(grad_k, block, (grad_s_GQK.transpose(1, 2) @ q_GQD).mul_(kept.scale))
        _add(grad_v, block, p_GQK.transpose(1, 2) @ up_GQD)
    return grad_q_THD, grad_k, grad_v


class TreeAttention(torch.autograd.Function):
    """``attend``, differentiable."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tree: Tree, scale: float) -> torch.Tensor:
        """What each token attends to."""
        out_THD, kept = attend(query, key, value, tree, scale, any(ctx.needs_input_grad[:3]))
        ctx.save_for_backward(query, key, value, *kept)
        ctx.tree, ctx.scale = tree, scale
        return out_THD

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        """Gradients of queries, keys and values."""
        query, key, value, *kept = ctx.saved_tensors
        grad_q_THD, grad_k, grad_v = attend_backward(query, key, value, upstream[0], Kept(ctx.tree, ctx.scale, tuple(kept)))
        return grad_q_THD.transpose(0, 1), grad_k.to(key.dtype), grad_v.to(value.dtype), None, None


def _queries(x_HTD: torch.Tensor, block: Block, key_heads: int) -> torch.Tensor:
    """The block's rows of ``x``, those of query heads that share a key head one below the other: (G, R·Q, D)."""
    return x_HTD[:, block.start : block.stop].reshape(key_heads, -1, x_HTD.shape[2])


def _seen(x_GTD: torch.Tensor, block: Block) -> torch.Tensor:
    """Keys or values that the block may look at: (G, seen + Q, D)."""
    if block.seen == block.start:
        return x_GTD[:, : block.stop]
    return torch.cat([x_GTD[:, : block.seen], x_GTD[:, block.start : block.stop]], dim=1)


def _probabilities(q_GQD: torch.Tensor, keys_GKD: torch.Tensor, block: Block, scale: float) -> torch.Tensor:
    scores_GQK = (q_GQD @ keys_GKD.transpose(1, 2)).mul_(scale)
    queries = block.stop - block.start
    scores_GQK.view(len(scores_GQK), -1, queries, block.seen + queries)[..., block.seen :].add_(block.mask_QQ)
    return scores_GQK.softmax(dim=-1)


def _put(out_THD: torch.Tensor, block: Block, x_GQD: torch.Tensor) -> None:
    """Writes a block's result, head by head, to its place."""
    out_THD[block.start : block.stop] = x_GQD.view(-1, block.stop - block.start, x_GQD.shape[2]).transpose(0, 1)


def _add(total_GTD: torch.Tensor, block: Block, x_GKD: torch.Tensor) -> None:
    total_GTD[:, : block.seen] += x_GKD[:, : block.seen]
    total_GTD[:, block.start : block.stop] += x_GKD[:, block.seen :]


#: torch leaves ``Function.apply`` untyped.
_attend: Any = TreeAttention.apply


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: ``query`` (1, heads, T, D), ``key`` and ``value`` (1, key heads, T, D) to (1, T, heads, D).

    ``tree`` among the options divides the row; without it this is the stock causal attention.
    """
    tree: Tree | None = options.pop("tree", None)
    if tree is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    if query.device.type == "cpu":
        # Under autocast, rotation leaves queries and keys in fp32.
        query, key, value = (x[0].to(tree.dtype) for x in (query, key, value))
        return _attend(query, key, value, tree, scale)[None], None
    # A mask together with shared key heads would fall back to slow code.
    shared = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, shared), repeat_kv(value, shared)
    return torch.cat([_stock(block, query, key, value, scale) for block in tree.blocks], dim=2).transpose(1, 2), None


def _stock(block: Block, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """A block by the stock kernel of the device."""
    keys, values = _seen(key[0], block)[None], _seen(value[0], block)[None]
    mask_QK = pad(block.mask_QQ, (block.seen, 0))
    return scaled_dot_product_attention(query[:, :, block.start : block.stop], keys, values, attn_mask=mask_QK, scale=scale)


def install_tree_attention() -> None:
    """Makes ``TREE_ATTENTION`` known to transformers. Doing it twice changes nothing."""
    AttentionInterface.register(TREE_ATTENTION, tree_attention)
    AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
