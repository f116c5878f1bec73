"""Attention over a tree: many rows that begin alike, with their common beginning computed once.

In: queries, keys and values of one packed row ``[prefix | suffix 1 | suffix 2 | …]`` and the lengths of its parts. Out: what each token
attends to: the prefix, and the earlier tokens of its own suffix. Must not know: tokens, losses, adapters.

A dense mask over the whole row would cost the square of its length, although a suffix never looks at another one. So the prefix attends to
itself by the causal kernel, and suffixes attend in groups to the prefix and their own group. The result is that of the dense mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

#: The name under which transformers finds this attention.
TREE_ATTENTION = "tailorbird_tree"

#: Suffixes are gathered up to this many tokens a group. Measured on two AVX-512 cores: flat between 64 and 216, worse above.
_GROUP_TOKENS = 192


@dataclass(frozen=True)
class Group:
    """Neighbouring suffixes that attend together. ``mask_11QK`` is 0 where a token may look and -inf elsewhere, over [prefix | group]."""

    start: int
    stop: int
    mask_11QK: torch.Tensor


@dataclass(frozen=True)
class Tree:
    """How a packed row is divided. ``pairs`` counts the (query, key) pairs that are not masked."""

    prefix: int
    groups: tuple[Group, ...]
    pairs: int


def grow_tree(prefix: int, suffixes: list[int], dtype: torch.dtype, device: torch.device) -> Tree:
    """The tree of a prefix and suffixes of the given lengths, with masks in the type and on the device of the queries."""
    groups, start = [], prefix
    for lengths in _gather(suffixes):
        stop = start + sum(lengths)
        groups.append(Group(start, stop, _group_mask(prefix, lengths, dtype).to(device)))
        start = stop
    pairs = prefix * (prefix + 1) // 2 + sum(n * prefix + n * (n + 1) // 2 for n in suffixes)
    return Tree(prefix, tuple(groups), pairs)


def _gather(suffixes: list[int]) -> list[list[int]]:
    groups: list[list[int]] = []
    for length in suffixes:
        if groups and sum(groups[-1]) + length <= _GROUP_TOKENS:
            groups[-1].append(length)
        else:
            groups.append([length])
    return groups


def _group_mask(prefix: int, lengths: list[int], dtype: torch.dtype) -> torch.Tensor:
    owner_Q = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    own_QQ = (owner_Q[:, None] == owner_Q[None, :]).tril()
    seen_QK = torch.cat([torch.ones(len(owner_Q), prefix, dtype=torch.bool), own_QQ], dim=1)
    mask_QK = torch.zeros(seen_QK.shape, dtype=dtype).masked_fill_(~seen_QK, float("-inf"))
    return mask_QK[None, None]


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
    # The CPU kernel reads shared key heads in place; on other devices a mask together with shared heads falls back to slow code.
    in_place = query.device.type == "cpu"
    if not in_place:
        shared = query.shape[1] // key.shape[1]
        key, value = repeat_kv(key, shared), repeat_kv(value, shared)
    parts = _attend(tree, query, key, value, scale=options.get("scaling"), enable_gqa=in_place)
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _attend(tree: Tree, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **how: Any) -> list[torch.Tensor]:
    end = tree.prefix
    key_prefix, value_prefix = key[:, :, :end], value[:, :, :end]
    parts = [scaled_dot_product_attention(query[:, :, :end], key_prefix, value_prefix, is_causal=True, **how)] if end else []
    for group in tree.groups:
        here = slice(group.start, group.stop)
        keys = torch.cat([key_prefix, key[:, :, here]], dim=2)
        values = torch.cat([value_prefix, value[:, :, here]], dim=2)
        parts.append(scaled_dot_product_attention(query[:, :, here], keys, values, attn_mask=group.mask_11QK, **how))
    return parts


def install_tree_attention() -> None:
    """Makes ``TREE_ATTENTION`` known to transformers. Doing it twice changes nothing."""
    AttentionInterface.register(TREE_ATTENTION, tree_attention)
    AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
