"""The processes that train one model together, each on its share of every batch (data parallel)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import distributed

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
        """Whether this process writes what all share."""
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
        """Whether it is so in some process."""
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
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", os.environ["RANK"])) % torch.cuda.device_count())
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
