"""Data-parallel process group of one training, and the sharding of its model (FSDP2, ``fully_shard`` of torch).

Sharding changes where numbers lie and not what is learned: it is chosen by memory, each time anew, and no part of a job's settings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tailorbird.training.devices import take_gpu

_Row = TypeVar("_Row")


class ProcessGroup:
    """This process among ``size``. All must call the same methods in the same order."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = 0
        if self.size > 1:
            if not distributed.is_initialized():
                _join()
            self.rank = distributed.get_rank()

    @property
    def leads(self) -> bool:
        """True in the process that writes for all."""
        return self.rank == 0

    def share(self, rows: Sequence[_Row]) -> Sequence[_Row]:
        """This process's rows, every ``size``-th one: lengths are spread evenly. May be none."""
        return rows[self.rank :: self.size]

    def sum(self, numbers: torch.Tensor) -> torch.Tensor:
        """``numbers`` summed over all processes, in place; to the same bits everywhere."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Sums gradients over all processes, in one message; a process that had no row for a parameter adds zeros."""
        trained = list(parameters)
        if self.size == 1 or not trained:
            return
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in trained])
        for parameter, gradient in zip(trained, torch.split(self.sum(flat), [p.numel() for p in trained]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def any(self, here: bool, device: torch.device) -> bool:
        """True when it is true in any process."""
        return bool(self.sum(torch.tensor(float(here), device=device)) > 0) if self.size > 1 else here

    def most(self, here: int, device: torch.device) -> int:
        """The largest number of all processes."""
        if self.size == 1:
            return here
        number = torch.tensor(here, device=device)
        distributed.all_reduce(number, distributed.ReduceOp.MAX)
        return int(number)


def _join() -> None:
    """Meets the others; each process of a machine takes a device of its own."""
    placed = take_gpu(int(os.environ.get("LOCAL_RANK", os.environ["RANK"])))
    distributed.init_process_group("nccl" if placed else "gloo")


#: Whether processes divide the model among them; ``auto``: where one process cannot hold it.
Sharding = Literal["auto", "always", "never"]
#: Share of the free memory that weights, gradients and moments may take before they are divided.
_SHARE = 0.6


def is_divided(needed_gib: float, free_gib: float, team: ProcessGroup, asked: Sharding = "auto") -> bool:
    """Whether ``team`` divides a model whose weights, gradients and moments take ``needed_gib`` in every process that holds them whole."""
    return team.size > 1 and (needed_gib > _SHARE * free_gib if asked == "auto" else asked == "always")


def divide_model(model: Any, team: ProcessGroup, device: torch.device) -> None:
    """Divides every decoder layer, and the rest as one; gradients are summed over the team, not averaged.

    The output head is divided where it is tied to the embeddings, and stays whole where it is not.
    """
    mesh = init_device_mesh(device.type, (team.size,))
    decoder = model.get_decoder()
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for part in (*decoder.layers, decoder):
        fully_shard(part, mesh=mesh)
        # Each process's loss is a sum over its rows, divided by the tokens of all: so gradients are summed.
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    if tied:
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
    model.get_output_embeddings().to(device)


def forget_gathered(model: Any) -> None:
    """Drops weights that a pass without gradients left whole: the next update would not reach them."""
    for module in model.modules():
        if hasattr(module, "reshard"):
            module.reshard()


def share(tensor: torch.Tensor) -> torch.Tensor:
    """Shard of ``tensor`` in this process: all of one that is not sharded."""
    local: torch.Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Full ``tensor``, on the CPU where it was sharded. Collective: every process must call it."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    with torch.no_grad():
        gathered: torch.Tensor = tensor.full_tensor().cpu()
    return gathered


def like(tensor: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """``tensor``, whole in every process, placed and divided as ``model`` is."""
    if not isinstance(model, DTensor):
        return tensor.to(model.device)
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)
