"""Data-parallel process group of one training, and the sharding of its model (FSDP2, ``fully_shard`` of torch).

Sharding changes where numbers lie and not what is learned: it is chosen by memory, each time anew, and no part of a job's settings.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
import torch
from pydantic import Field
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tailorbird.domain.errors import Unavailable
from tailorbird.domain.value import Value
from tailorbird.training.devices import take_gpu

_Row = TypeVar("_Row")


class TeamPlace(Value):
    """A place among the processes of this machine that train one job together: ``rank`` (from 0, which leads, reports and writes) among
    ``size``. They meet by way of the file ``meeting``, which is not there yet and which strangers neither read nor write, and show one
    another that they know ``key`` (hexadecimal digits)."""

    rank: int = Field(ge=0)
    size: int = Field(ge=2)
    meeting: Path
    key: str = Field(repr=False)


class ProcessGroup:
    """This process among the ``size`` that have met (``meet``). All must call the same methods in the same order."""

    def __init__(self) -> None:
        met = distributed.is_initialized()
        self.size = distributed.get_world_size() if met else 1
        self.rank = distributed.get_rank() if met else 0

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


def meet(place: TeamPlace) -> None:
    """Meets the others; this process computes on the GPU of its rank where there are any. Raises Unavailable (``member_lost``) when one of
    them does not show that it knows the key.

    Addresses are exchanged in a file, so no port is open for it; each listens on loopback, for as long as it takes to connect.
    """
    placed = take_gpu(place.rank)
    for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(name, _loopback())
    store = distributed.FileStore(str(place.meeting), place.size)  # type: ignore[attr-defined]
    distributed.init_process_group("nccl" if placed else "gloo", store=store, rank=place.rank, world_size=place.size)
    if not placed:
        _require_key(place)


def _loopback() -> str:
    """The network interface that only this machine reaches."""
    return next(str(name) for name, addresses in psutil.net_if_addrs().items() if any(each.address == "127.0.0.1" for each in addresses))


def _require_key(place: TeamPlace) -> None:
    """Each two show each other that they know the key, over the connection that they will use: whoever took somebody's place while the
    members connected does not. Raises Unavailable (``member_lost``)."""
    for other in range(place.size):
        if other == place.rank:
            continue
        shown = torch.tensor(list(_proof(place.key, place.rank, other)), dtype=torch.uint8)
        seen = torch.empty_like(shown)
        sent = distributed.isend(shown, other)
        distributed.recv(seen, other)
        if sent is not None:
            sent.wait()
        if not hmac.compare_digest(bytes(seen.tolist()), _proof(place.key, other, place.rank)):
            raise Unavailable(
                "a process that is none of the team tried to train with it",
                "see who else uses this machine, then start again: the run goes on from its checkpoint",
                code="member_lost",
            )


def _proof(key: str, shows: int, sees: int) -> bytes:
    return hmac.digest(bytes.fromhex(key), f"{shows} to {sees}".encode(), hashlib.sha256)


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
