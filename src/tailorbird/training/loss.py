"""Cross-entropy of the answers, with its gradient computed in the forward pass.

In: hidden states at the positions that predict answer tokens, the output head, the tokens. Out: the summed loss in nats. Logits exist for
one block of tokens at a time and never outlive it. Must not know: the backbone, batches.
"""

from __future__ import annotations

from typing import Any

import torch

#: Tokens whose logits exist at once: 256 × 49,152 in fp32 are 48 MiB.
_BLOCK = 256


class AnswerLoss(torch.autograd.Function):
    """Sum over tokens of -log softmax(hidden · headᵀ)[target], in fp32.

    ``hidden_AH`` and ``head_VH`` are multiplied in ``dtype``. A frozen head costs two matmuls a token instead of the three of autograd with
    recomputation (the idea of Liger-Kernel's fused linear cross-entropy); a trained one costs three, its gradient held in fp32.
    """

    @staticmethod
    def forward(ctx: Any, hidden_AH: torch.Tensor, head_VH: torch.Tensor, targets_A: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The summed loss, a scalar in fp32."""
        needs_hidden, needs_head = ctx.needs_input_grad[:2]
        weight_VH = head_VH.to(dtype)
        grad_AH = torch.empty_like(hidden_AH) if needs_hidden else None
        grad_VH = torch.zeros_like(head_VH, dtype=torch.float32) if needs_head else None
        total = torch.zeros((), dtype=torch.float32, device=hidden_AH.device)
        for start in range(0, hidden_AH.shape[0], _BLOCK):
            here = slice(start, start + _BLOCK)
            block_bH = hidden_AH[here].to(dtype)
            loss, error_bV = _block(block_bH @ weight_VH.T, targets_A[here])
            total += loss
            if grad_AH is not None:
                grad_AH[here] = error_bV.to(dtype) @ weight_VH
            if grad_VH is not None:
                grad_VH += error_bV.to(dtype).T @ block_bH
        ctx.save_for_backward(grad_AH, grad_VH)
        ctx.head_dtype = head_VH.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        """The stored gradients, scaled."""
        grad_AH, grad_VH = ctx.saved_tensors
        scale = upstream[0]
        head = None if grad_VH is None else (grad_VH * scale).to(ctx.head_dtype)
        return None if grad_AH is None else grad_AH * scale.to(grad_AH.dtype), head, None, None


#: The summed loss; torch leaves ``Function.apply`` untyped.
answer_loss: Any = AnswerLoss.apply


def _block(logits_bV: torch.Tensor, targets_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of a block and the derivative of it by the logits (softmax - one-hot), both fp32."""
    logits_bV = logits_bV.float()
    normaliser_b = logits_bV.logsumexp(dim=-1)
    at_target_b = logits_bV.gather(1, targets_b[:, None]).squeeze(1)
    error_bV = logits_bV.sub_(normaliser_b[:, None]).exp_()
    error_bV.scatter_add_(1, targets_b[:, None], torch.full_like(targets_b[:, None], -1, dtype=torch.float32))
    return (normaliser_b - at_target_b).sum(), error_bV
