"""AdamW over named parameters, with a state of plain tensors, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from tailorbird.domain.plan import TrainingSettings
from tailorbird.training.process_group import ProcessGroup, like, share, whole


def learning_rate(settings: TrainingSettings, step: int, steps: int) -> float:
    """The rate at ``step`` (0-based).

    Linear warm-up over a share of ``steps``, then a half cosine to zero at the end (Loshchilov & Hutter 2017).
    """
    warmup = warmup_steps(settings, steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def warmup_steps(settings: TrainingSettings, steps: int) -> int:
    """Steps in which the rate rises."""
    return math.ceil(settings.warmup * steps)


_RANDOM = "random_state"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Optimiser:
    """AdamW (Loshchilov & Hutter 2019) with decay on matrices alone, gradients clipped to a norm.

    ``rates`` are the parameters that learn at a multiple of the learning rate, by name.
    """

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        settings: TrainingSettings,
        rates: Mapping[str, float] | None = None,
        team: ProcessGroup | None = None,
    ) -> None:
        self._parameters = parameters
        self._team = team or ProcessGroup()
        self._divided = {name for name, parameter in parameters.items() if share(parameter) is not parameter}
        self._clip_norm = settings.clip_norm
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in parameters.items():
            decay = settings.weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault((decay, (rates or {}).get(name, 1.0)), []).append(parameter)
        described = [{"params": group, "weight_decay": decay, "rate": rate} for (decay, rate), group in groups.items()]
        self._adam = torch.optim.AdamW(described, lr=settings.learning_rate, fused=True)

    def sum_gradients(self) -> None:
        """Sums gradients over the processes that train together; those of divided weights were summed in the backward pass."""
        self._team.sum_gradients([parameter for name, parameter in self._parameters.items() if name not in self._divided])

    def clip(self) -> float:
        """Scales all gradients down to the norm that settings allow (0: leaves them) and returns the norm they had."""
        limit = self._clip_norm if self._clip_norm > 0 else float("inf")
        if self._divided:
            return self._clip_divided(limit)
        return float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), limit))

    def _clip_divided(self, limit: float) -> float:
        """The same where each process holds its share of some gradients, and all of the others."""
        squares = {True: 0.0, False: 0.0}
        gradients = {name: share(parameter.grad) for name, parameter in self._parameters.items() if parameter.grad is not None}
        for name, gradient in gradients.items():
            squares[name in self._divided] += float(gradient.double().square().sum())
        device = next(iter(self._parameters.values())).device
        norm = math.sqrt(float(self._team.sum(torch.tensor(squares[True], device=device))) + squares[False])
        if norm > limit:
            for gradient in gradients.values():
                gradient.mul_(limit / (norm + 1e-6))
        return norm

    def update(self, learning_rate: float) -> None:
        """One step, after which gradients are gone."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate * group["rate"]
        self._adam.step()
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Drops gradients of a step that is not finished."""
        self._adam.zero_grad(set_to_none=True)

    def retire(self) -> None:
        """Drops gradients and moments: nothing more will be learned."""
        self.forget_gradients()
        self._adam.state.clear()

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters as they stand, whole and, unless they are divided, not copied: they change with the next update.

        Every process of a team must ask.
        """
        return {name: whole(parameter) for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def set_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Replaces the parameters by ``weights``."""
        for name, parameter in self._parameters.items():
            parameter.copy_(like(weights[name], parameter))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights, moments and torch's random state: all that the rest of the run depends on. Every process of a team must ask."""
        kept = {f"weight.{name}": value for name, value in self.weights().items()}
        for name, parameter in self._parameters.items():
            kept |= {f"{moment}.{name}": whole(value) for moment, value in self._adam.state[parameter].items()}
        return kept | {_RANDOM: torch.get_rng_state()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Goes back to what ``tensors`` gave."""
        self.set_weights({name: tensors[f"weight.{name}"] for name in self._parameters})
        for name, parameter in self._parameters.items():
            if f"step.{name}" in tensors:
                step, *moments = (tensors[f"{moment}.{name}"] for moment in _MOMENTS)
                placed = [step.to(parameter.device), *(like(moment, parameter) for moment in moments)]
                self._adam.state[parameter] = dict(zip(_MOMENTS, placed, strict=True))
        torch.set_rng_state(tensors[_RANDOM])
