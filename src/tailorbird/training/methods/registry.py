"""Registry of training methods, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, get_args, runtime_checkable

import torch
from transformers import PreTrainedModel

from tailorbird.domain.errors import Internal, InvalidInput
from tailorbird.domain.plan import TrainingSettings
from tailorbird.text.normalisation import nearest


@dataclass(frozen=True)
class Learner:
    """Model under training, its settings, and the folder that its weights came from."""

    model: PreTrainedModel
    settings: TrainingSettings
    base: Path


@runtime_checkable
class Method(Protocol):
    """One way to train. The loop knows nothing else about it."""

    name: str
    #: True: weights are held in fp32 and multiplied in the settings' precision. False: they are held in that precision.
    master_weights: bool
    #: Whether processes that train together may divide the weights among them.
    divisible: bool

    def read(self, folder: Path, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """The base model in ``folder``, its weights held as the method wants them. Raises ModelInvalid, Unavailable."""
        ...

    def check(self, learner: Learner) -> None:
        """Raises InvalidInput when the settings do not fit the model. Changes nothing."""
        ...

    def prepare(self, learner: Learner) -> dict[str, torch.nn.Parameter]:
        """Makes the model ready, in place, and returns what is trained, by a name that is stable between runs.

        What is drawn at random comes from torch's global generator, on the CPU, so that every device starts alike.
        """
        ...

    def rates(self, learner: Learner) -> dict[str, float]:
        """The parameters that learn at a multiple of the learning rate, by name."""
        ...

    def save(self, learner: Learner, folder: Path) -> None:
        """Writes what was trained into the empty ``folder``, in the form that other tools read. Equal weights give equal bytes."""
        ...


_METHODS: dict[str, Method] = {}


def register(method: Method) -> None:
    """Adds a method. Raises Internal when it is none, or when its name is taken."""
    if not isinstance(method, Method):
        raise Internal(f"{type(method).__name__} is not a training method", "give it every member of Method", code="method_invalid")
    if method.name in _METHODS:
        raise Internal(f"two training methods are named {method.name}", "rename one of them", code="method_taken")
    _METHODS[method.name] = method


def methods() -> dict[str, Method]:
    """All registered methods, by name."""
    return dict(_METHODS)


def method_named(name: str) -> Method:
    """The method of that name. Raises InvalidInput."""
    try:
        return _METHODS[name]
    except KeyError:
        near = nearest(name, _METHODS)
        hint = f"did you mean {near}?" if near else f"there are: {', '.join(sorted(_METHODS))}"
        raise InvalidInput(f"no training method is named {name}", hint, code="method_unknown") from None


def check_registry(folders: set[str]) -> None:
    """Each folder must have registered the method of its name, and settings must be able to name each. Raises Internal."""
    nameable = set(get_args(TrainingSettings.model_fields["method"].annotation))
    if not set(_METHODS) == folders == nameable:
        raise Internal(
            f"training methods disagree: folders {sorted(folders)}, registered {sorted(_METHODS)}, settings {sorted(nameable)}",
            "a method is a folder of its name that registers itself, and a value of TrainingSettings.method",
            code="method_registry",
        )
