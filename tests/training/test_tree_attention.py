"""Packed rows with a shared prefix are the plain computation: same loss, same gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.training_samples import settings
from tailorbird.training import tree_attention
from tailorbird.training.batches import TokenizedRow, pack, shared_prefix
from tailorbird.training.methods import METHODS, Learner
from tailorbird.training.network import Network, answer_loss, read_model

CPU = torch.device("cpu")


def prepared(method: str, base: Path) -> tuple[Network, dict[str, torch.nn.Parameter]]:
    torch.manual_seed(3)
    model = read_model(base, torch.float32, CPU)
    parameters = METHODS[method].prepare(Learner(model, settings(method), base))
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith(".B"):
                parameter.normal_(std=0.1)
    return Network(model, "fp32"), parameters


def plain_loss(network: Network, row: TokenizedRow) -> torch.Tensor:
    """One sequence, all logits, the model's own causal mask."""
    ids_1T = torch.tensor([row.ids])
    logits_TV = network.model(input_ids=ids_1T[:, :-1], use_cache=False).logits[0, row.prompt - 1 :]
    return torch.nn.functional.cross_entropy(logits_TV, ids_1T[0, row.prompt :], reduction="sum")


def gradients(loss: torch.Tensor, parameters: dict[str, torch.nn.Parameter]) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(loss, list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(
    "group_tokens",
    [
        40,
        10_000,
    ],
)
def test_packed_loss_and_gradients_are_the_plain_ones(
    method: str, group_tokens: int, tiny_base: Path, rows: list[TokenizedRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_attention, "_GROUP_TOKENS", group_tokens)
    network, parameters = prepared(method, tiny_base)
    assert shared_prefix(rows) > 20
    packed_loss = network.loss_sum(pack(rows, torch.float32, CPU))
    plain = torch.stack([plain_loss(network, row) for row in rows]).sum()
    assert packed_loss.item() == pytest.approx(plain.item(), rel=1e-6)
    expected = gradients(plain, parameters)
    for name, gradient in gradients(packed_loss, parameters).items():
        error = (gradient - expected[name]).norm() / expected[name].norm()
        assert error < 1e-4, (name, error)


@pytest.mark.parametrize("head_trains", [False, True])
def test_gradient_in_forward_is_that_of_autograd(head_trains: bool) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(600, 16, requires_grad=True)
    head = torch.randn(50, 16, requires_grad=head_trains)
    targets = torch.randint(0, 50, (600,))
    ours = answer_loss(hidden, head, targets, torch.float32)
    stock = torch.nn.functional.cross_entropy(hidden @ head.T, targets, reduction="sum")
    assert ours.item() == pytest.approx(stock.item(), rel=1e-6)
    wanted = [hidden, head] if head_trains else [hidden]
    for got, expected in zip(torch.autograd.grad(ours / 7, wanted), torch.autograd.grad(stock / 7, wanted), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
