"""Cross-entropy of the answers, with its gradient computed in the forward pass."""

from __future__ import annotations

from typing import Any

import torch

from tailorbird.training.devices import is_gpu

#: Tokens whose logits exist at once: 256 × 49,152 in fp32 are 48 MiB.
_BLOCK = 256

#: Of these, so many are in fp32 at once: 16 × 49,152 are 3 MiB.
_ROWS = 16


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
            losses_b, error_bV = _block(block_bH @ weight_VH.T, targets_A[here])
            total += losses_b.sum()
            if grad_AH is not None:
                grad_AH[here] = error_bV @ weight_VH
            if grad_VH is not None:
                grad_VH += (error_bV.T @ block_bH).float()
        ctx.save_for_backward(grad_AH, grad_VH)
        ctx.head_dtype = head_VH.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        """The stored gradients, scaled; that of the head in place, for it is as large as the head: a second backward pass is refused."""
        grad_AH, grad_VH = ctx.saved_tensors
        scale = upstream[0]
        head = None if grad_VH is None else grad_VH.mul_(scale).to(ctx.head_dtype)
        return None if grad_AH is None else grad_AH * scale.to(grad_AH.dtype), head, None, None


#: The summed loss; torch leaves ``Function.apply`` untyped.
answer_loss: Any = AnswerLoss.apply


@torch.no_grad()
def answer_losses(hidden_AH: torch.Tensor, head_VH: torch.Tensor, targets_A: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """-log softmax(hidden · headᵀ)[target] of each token, in fp32: (A,)."""
    weight_HV = head_VH.to(dtype).T
    parts = zip(torch.split(hidden_AH, _BLOCK), torch.split(targets_A, _BLOCK), strict=True)
    return torch.cat([_block(hidden_bH.to(dtype) @ weight_HV, targets_b)[0] for hidden_bH, targets_b in parts])


def _block(logits_bV: torch.Tensor, targets_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of a block's tokens, and the derivative of their sum by the logits (softmax - one-hot) in their type.

    A few rows at a time on a CPU, so that what is fp32 stays in its cache; all at once on a GPU.
    """
    losses_b1, error_bV = torch.empty(len(logits_bV), 1, device=logits_bV.device), torch.empty_like(logits_bV)
    rows = len(logits_bV) if is_gpu(logits_bV.device) else _ROWS
    for start in range(0, len(logits_bV), rows):
        here = slice(start, start + rows)
        logits_rV, target_r1 = logits_bV[here].float(), targets_b[here, None]
        highest_r1 = logits_rV.amax(dim=-1, keepdim=True)
        shifted_at_target_r1 = logits_rV.gather(1, target_r1) - highest_r1
        softmax_rV = logits_rV.softmax(dim=-1)
        # The highest probability is at least 1 / V: its logarithm gives the normaliser without losing anything.
        log_normaliser_r1 = -softmax_rV.amax(dim=-1, keepdim=True).log()
        losses_b1[here] = log_normaliser_r1 - shifted_at_target_r1
        error_bV[here] = softmax_rV.scatter_add_(1, target_r1, torch.full_like(shifted_at_target_r1, -1))
    return losses_b1[:, 0], error_bV
