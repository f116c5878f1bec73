"""Changes of several adapters in one batch: joined or one after another, each row has its own and nobody else's."""

from __future__ import annotations

import pytest
import torch

from tailorbird.inference.forward.module_adapter import AdapterHooks, LowRank, ModuleAdapter, RowRange

WIDTHS = {"first": (6, 5), "second": (5, 4)}
JOINED, APART = 2**20, 0


def model() -> torch.nn.Module:
    torch.manual_seed(1)
    made = torch.nn.Module()
    for name, (inputs, outputs) in WIDTHS.items():
        made.add_module(name, torch.nn.Linear(inputs, outputs))
    return made.eval()


def adapter(seed: int, ranks: dict[str, int]) -> ModuleAdapter:
    drawn = torch.Generator().manual_seed(seed)
    deltas = {}
    for name, rank in ranks.items():
        inputs, outputs = WIDTHS[name]
        deltas[name] = LowRank(torch.randn(rank, inputs, generator=drawn), torch.randn(outputs, rank, generator=drawn))
    return ModuleAdapter(deltas)


ONE, TWO, HALF = adapter(1, {"first": 2, "second": 3}), adapter(2, {"first": 4, "second": 1}), adapter(3, {"second": 2})
ROWS = [ONE, None, TWO, HALF, ONE, TWO]


def computed(owners: list[ModuleAdapter | None], x: torch.Tensor, joint: int, rows: int, length: int) -> torch.Tensor:
    net = model()
    hooks = AdapterHooks(net, joint)
    for one in owners:
        if one is not None:
            hooks.cover(one)
    with torch.inference_mode(), hooks.applied([RowRange(at, at + 1, one) for at, one in enumerate(owners)], rows, length):
        return net.get_submodule("second")(net.get_submodule("first")(x))


@pytest.mark.parametrize("joint", [JOINED, APART], ids=["joined", "one after another"])
def test_each_row_has_its_own_change(joint: int) -> None:
    x = torch.randn(6, 3, 6, generator=torch.Generator().manual_seed(9))
    alone = torch.cat([computed([one], x[at : at + 1], joint, 1, 3) for at, one in enumerate(ROWS)])
    for given in (x, x.reshape(18, 6)):
        assert torch.allclose(computed(ROWS, given, joint, 6, 3).reshape(alone.shape), alone, atol=1e-5)
