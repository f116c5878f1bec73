"""AdamW over named parameters, with a state that can be kept as plain tensors.

In: parameters with gradients, settings. Out: updated parameters; and everything that the next update depends on, by name. Must not know:
losses, files.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from tailorbird.domain.plan import TrainingSettings
from tailorbird.training.team import Team

_RANDOM = "random_state"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Optimiser:
    """AdamW (Loshchilov & Hutter 2019) with decay on matrices alone, gradients clipped to a norm.

    ``rates`` are the parameters that learn at a multiple of the learning rate, by name.
    """

    def __init__(
        self, parameters: dict[str, torch.nn.Parameter], settings: TrainingSettings, rates: Mapping[str, float] | None = None
    ) -> None:
        self._parameters = parameters
        self._clip_norm = settings.clip_norm
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in parameters.items():
            decay = settings.weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault((decay, (rates or {}).get(name, 1.0)), []).append(parameter)
        described = [{"params": group, "weight_decay": decay, "rate": rate} for (decay, rate), group in groups.items()]
        self._adam = torch.optim.AdamW(described, lr=settings.learning_rate, fused=True)

    def sum_gradients(self, team: Team) -> None:
        """Sums gradients over the processes that train together."""
        team.sum_gradients(self._parameters.values())

    def clip(self) -> float:
        """Scales all gradients down to the norm that settings allow (0: leaves them) and returns the norm they had."""
        limit = self._clip_norm if self._clip_norm > 0 else float("inf")
        return float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), limit))

    def update(self, learning_rate: float) -> None:
        """One step, after which gradients are gone."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate * group["rate"]
        self._adam.step()
        self.forget_gradients()

    def forget_gradients(self) -> None:
        """Drops gradients of a step that is not finished."""
        self._adam.zero_grad(set_to_none=True)

    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters as they stand, not copied: they change with the next update."""
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def set_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Puts ``weights`` in place of the parameters."""
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights, moments and torch's random state: all that the rest of the run depends on."""
        kept = {f"weight.{name}": parameter.detach() for name, parameter in self._parameters.items()}
        for name, parameter in self._parameters.items():
            kept |= {f"{moment}.{name}": value for moment, value in self._adam.state[parameter].items()}
        return kept | {_RANDOM: torch.get_rng_state()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Goes back to what ``tensors`` gave."""
        self.set_weights({name: tensors[f"weight.{name}"] for name in self._parameters})
        for name, parameter in self._parameters.items():
            if f"step.{name}" in tensors:
                self._adam.state[parameter] = {moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in _MOMENTS}
        torch.set_rng_state(tensors[_RANDOM])
