"""Log-probabilities of labels as complete answers: the prompt is read once, the labels as a tree after it.

In: a model, a shared prefix, what each prompt adds to it, a trie. Out: log-probabilities, normalised over the labels. The sum along a
label's path is exactly what one sequence per label would give, because a node sees the prompt and its ancestors only, at the same
positions. Must not know: servables, messages. Axes: B rows, R prompt columns, N nodes, S sources (1 + N), E hidden, V vocabulary, L
labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tailorbird.inference.batching import PaddedRows, pad_left
from tailorbird.inference.memory import Passing, Prefix
from tailorbird.inference.model import Model
from tailorbird.inference.trie import LabelTrie

#: Rows of logits (one vocabulary each) held at once: few enough that they stay in the processor's cache.
_LOGIT_ROWS = 128


def score_labels(model: Model, prefix: Prefix, rows: Sequence[Sequence[int]], trie: LabelTrie) -> torch.Tensor:
    """Log-probabilities (BL, nats, fp32) of the trie's labels after each of ``rows``, each of which follows ``prefix``."""
    prompts = pad_left(rows, prefix.length, model.shape.device)
    tokens, positions, seen = _with_trie(prompts, prefix.length, trie)
    hidden_BTE = model.hidden(tokens, positions, seen, Passing(prefix))
    edges_BE = _edge_scores(model, hidden_BTE[:, prompts.tokens_BT.shape[1] - 1 :], trie)
    # One more edge, worth nothing, fills up the shorter paths.
    padded_BE = torch.cat([edges_BE, edges_BE.new_zeros(len(edges_BE), 1)], dim=1)
    return torch.log_softmax(padded_BE[:, trie.path_LE()].sum(dim=2), dim=1)


def _with_trie(prompts: PaddedRows, prefix: int, trie: LabelTrie) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, positions and sight of prompts followed by the trie: nodes see the whole prompt and their ancestors."""
    device, rows, nodes = prompts.tokens_BT.device, len(prompts.tokens_BT), len(trie.tokens)
    nodes_BN = torch.tensor(trie.tokens, device=device).expand(rows, -1)
    depths_BN = prompts.positions_BT[:, -1:] + torch.tensor(trie.depths, device=device)
    prompt_sees = torch.cat([prompts.seen_BTK(prefix), prompts.real_BT.new_zeros(*prompts.real_BT.shape, nodes)], dim=2)
    node_sees = torch.cat(
        [
            prompts.real_BT.new_ones(rows, nodes, prefix),
            prompts.real_BT.unsqueeze(1).expand(-1, nodes, -1),
            trie.ancestors_NN().to(device).expand(rows, -1, -1),
        ],
        dim=2,
    )
    return (
        torch.cat([prompts.tokens_BT, nodes_BN], dim=1),
        torch.cat([prompts.positions_BT, depths_BN], dim=1),
        torch.cat([prompt_sees, node_sees], dim=1),
    )


def _edge_scores(model: Model, hidden_BSE: torch.Tensor, trie: LabelTrie) -> torch.Tensor:
    """Log-probability of every edge's token at its source (B x edges, fp32)."""
    sources = torch.tensor(trie.edge_sources, device=hidden_BSE.device)
    tokens = torch.tensor(trie.edge_tokens, device=hidden_BSE.device)
    step = max(1, _LOGIT_ROWS // len(hidden_BSE))
    parts = []
    for start in range(0, hidden_BSE.shape[1], step):
        here_BSE = hidden_BSE[:, start : start + step]
        # One flat product: for a slice with a batch axis torch would copy the vocabulary's weights once per row.
        logits_BSV = model.logits(here_BSE.flatten(0, 1)).view(*here_BSE.shape[:2], -1)
        here = (sources >= start) & (sources < start + step)
        chosen = logits_BSV[:, sources[here] - start, tokens[here]]
        parts.append(chosen - logits_BSV.logsumexp(dim=2)[:, sources[here] - start])
    return torch.cat(parts, dim=1)
