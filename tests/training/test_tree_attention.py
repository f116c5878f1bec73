"""Packed rows with a shared prefix are the plain computation: same loss, same gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from support.training_samples import settings
from tailorbird.training import tree_attention
from tailorbird.training.batches import TokenizedRow, divide, pack, shared_prefix
from tailorbird.training.methods import METHODS, Learner
from tailorbird.training.network import Network, answer_loss, read_model
from tailorbird.training.tree_attention import grow_tree

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
@pytest.mark.parametrize("group_tokens", [1, 40, 10_000])
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


def test_rows_that_share_nothing_are_exact_too(tiny_base: Path) -> None:
    network, _ = prepared("lora", tiny_base)
    apart = [TokenizedRow((5, 900, 17, 33, 2), 2), TokenizedRow((700, 41, 42, 2), 1), TokenizedRow((9, 9, 9, 9, 9, 2), 4)]
    assert shared_prefix(apart) == 0
    packed_loss = network.loss_sum(pack(apart, torch.float32, CPU))
    assert packed_loss.item() == pytest.approx(sum(plain_loss(network, row).item() for row in apart), rel=1e-6)


def test_dividing_a_batch_changes_no_gradient(tiny_base: Path, rows: list[TokenizedRow]) -> None:
    network, parameters = prepared("lora", tiny_base)
    whole = gradients(network.loss_sum(pack(rows, torch.float32, CPU)), parameters)
    parts = divide(rows, 80)
    assert len(parts) > 2
    for part in parts:
        network.loss_sum(pack(part, torch.float32, CPU)).backward()
    for name, parameter in parameters.items():
        assert parameter.grad is not None
        assert (parameter.grad - whole[name]).norm() <= 1e-4 * whole[name].norm()


def test_one_row_cannot_see_another(tiny_base: Path, rows: list[TokenizedRow]) -> None:
    network, _ = prepared("lora", tiny_base)
    first, second = rows[0], rows[1]
    changed = TokenizedRow((*second.ids[: second.prompt - 3], 700, 701, *second.ids[second.prompt - 1 :]), second.prompt)
    alone = network.loss_sum(pack([first], torch.float32, CPU))
    for neighbour in (second, changed):
        together = network.loss_sum(pack([neighbour, first], torch.float32, CPU)) - network.loss_sum(pack([neighbour], torch.float32, CPU))
        assert together.item() == pytest.approx(alone.item(), rel=1e-4)


def test_pairs_count_what_the_masks_allow() -> None:
    tree = grow_tree(3, [2, 1, 4], torch.float32, CPU)
    padding = sum(block.mask_NQQ[..., 0].numel() - (block.stop - block.start) for block in tree.blocks)
    assert tree.pairs + padding == sum(int((block.mask_NQQ == 0).sum()) + block.seen * (block.stop - block.start) for block in tree.blocks)
    assert tree.computed_pairs >= tree.pairs


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


def test_without_a_tree_the_attention_is_the_stock_one(tiny_base: Path) -> None:
    network, _ = prepared("full", tiny_base)
    stock: LlamaForCausalLM = AutoModelForCausalLM.from_pretrained(tiny_base, attn_implementation="eager")
    ids = torch.tensor([[1, 44, 99, 1000, 7]])
    torch.testing.assert_close(network.model(ids).logits, stock(ids).logits, rtol=1e-4, atol=1e-4)
