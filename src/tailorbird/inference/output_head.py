"""Output head of a model apart from its decoder, and whether logits are more than a multiple of what it multiplies."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

#: Width of the stand-in for a head, words of it, and the spread of its logits: a cap on logits lies far below.
_WIDTH, _WORDS, _SPREAD = 16, 32, 300.0


class _HiddenStates:
    """What a decoder returns, with hidden states that are known already and nothing else."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, place: Any) -> Any:
        return self.last_hidden_state if place in (0, "last_hidden_state") else None

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class KnownStates(nn.Module):
    """Stands in a decoder's place while a model computes logits from hidden states that are known."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: torch.Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> _HiddenStates:
        """The states that are known, whatever is asked."""
        assert self.hidden is not None
        return _HiddenStates(self.hidden)


def head_of(model: Any) -> tuple[Any, KnownStates | None]:
    """The model without its decoder, which computes logits from hidden states that are known."""
    name = model.base_model_prefix
    if name not in model._modules:
        return model, None
    head, states = copy.copy(model), KnownStates()
    head._modules = dict(model._modules)
    head._modules[name] = states
    return head, states


@torch.no_grad()
def has_own_logits(model: Any) -> bool:
    """True where logits are more than a multiple of hidden states times the head (a bias, a cap), or nobody can tell. The weights of
    ``model`` may be on the meta device: a small layer stands in for its head."""
    layer = model.get_output_embeddings()
    apart, states = head_of(model)
    names = [name for name, module in apart._modules.items() if module is layer]
    if states is None or not names or {name for name, _ in layer.named_parameters()} != {"weight"}:
        return True
    # Multipliers of logits may be the decoder's.
    numbers = {name: value for name, value in vars(getattr(model, model.base_model_prefix)).items() if isinstance(value, (int, float))}
    vars(states).update(numbers | vars(states))
    drawn = torch.Generator().manual_seed(7)
    apart._modules[names[0]] = small = nn.Linear(_WIDTH, _WORDS, bias=False, device="cpu", dtype=torch.float32)
    small.weight.copy_(torch.randn(_WORDS, _WIDTH, generator=drawn))
    states.hidden = _SPREAD / _WIDTH**0.5 * torch.randn(1, 4, _WIDTH, generator=drawn)
    try:
        logits = apart(input_ids=torch.zeros((1, 4), dtype=torch.long)).logits
    except Exception:  # noqa: BLE001 - whatever transformers raises: nobody can tell
        return True
    plain = states.hidden @ small.weight.T
    scale = (logits * plain).sum() / plain.square().sum()
    return bool((logits - scale * plain).abs().max() > 1e-4 * logits.abs().max())
