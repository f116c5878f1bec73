"""Gradient check: the gradient of eight rows together against the sum of eight gradients.

The first layers of the model are read (two, or as many as show each kind of layer), with embeddings and head, and trained by the job's own
method: the same code as in the run, in seconds whatever the model's size. Faults of normalisation and packing change every step and no
message tells (transformers#34191, Soup#720).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import logging as transformers_verbosity

from tailorbird.domain.preflight import PreflightFinding
from tailorbird.training.architecture import first_layers
from tailorbird.training.batches import divide
from tailorbird.training.methods import Learner, method_named
from tailorbird.training.network import Network
from tailorbird.training.preflight.context import PreflightContext, blocking
from tailorbird.training.tokenization import TokenizedRow

_ROWS = 8
#: Relative error of the whole gradient in fp32: rounding stays below 1e-5, a row counted twice is above 1e-1.
TOLERANCE = 1e-3
_CPU = torch.device("cpu")
#: transformers leaves these functions untyped.
_logging: Any = transformers_verbosity


def gradient_error(subject: PreflightContext) -> float:
    """‖g(batch) - Σ g(row)‖ / ‖Σ g(row)‖ over all trained parameters, in fp32 on the CPU. Raises as the method does."""
    network, parameters = _prepared(subject)
    rows = _chosen(subject.train)
    together = _gradient(network, rows, parameters)
    # One at a time: a gradient in fp64 is several times as large as the model that was read.
    apart = torch.zeros_like(together)
    for row in rows:
        apart += _gradient(network, [row], parameters)
    return float(together.sub_(apart).norm() / apart.norm().clamp_min(1e-30))


def additive(error: float) -> list[PreflightFinding]:
    """A finding where the error is more than rounding."""
    if error <= TOLERANCE:
        return []
    what = f"the gradient of {_ROWS} rows together is not the sum of theirs (relative error {error:.1e}): rows see one another"
    return [blocking("gradient_not_additive", what, "use another base model")]


def _chosen(rows: Sequence[TokenizedRow]) -> list[TokenizedRow]:
    """Eight rows of different length from the shorter half, where there are as many."""
    shorter = sorted(rows, key=lambda row: len(row.ids))[: max(_ROWS, len(rows) // 2)]
    return shorter[:: max(1, len(shorter) // _ROWS)][:_ROWS]


def _prepared(subject: PreflightContext) -> tuple[Network, dict[str, torch.nn.Parameter]]:
    settings = subject.job.settings.model_copy(update={"precision": "fp32"})
    with tempfile.TemporaryDirectory() as made, torch.random.fork_rng(devices=[]), _silence():
        torch.manual_seed(settings.seed)
        method = method_named(settings.method)
        model = method.read(_sliced(subject, Path(made)), torch.float32, _CPU)
        learner = Learner(model, settings, subject.job.base)
        method.check(learner)
        parameters = method.prepare(learner)
        for parameter in parameters.values():
            # What starts at zero (B of an adapter) hides the gradient of its partner.
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.01)
    network = Network(model, "fp32")
    network.settle(subject.rows)
    return network, parameters


@contextmanager
def _silence() -> Iterator[None]:
    """transformers would list the layers that were left out."""
    before = _logging.get_verbosity()
    _logging.set_verbosity_error()
    try:
        yield
    finally:
        _logging.set_verbosity(before)


def _sliced(subject: PreflightContext, folder: Path) -> Path:
    """A folder that reads as the model's first layers: its files, linked, and a shorter config."""
    for path in subject.job.base.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    config = first_layers(AutoConfig.from_pretrained(subject.job.base, local_files_only=True, trust_remote_code=False))
    (folder / "config.json").write_text(json.dumps(subject.config | _shortened(subject.config, config.to_dict())), encoding="utf-8")
    return folder


def _shortened(config: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """Those entries of ``first``, the config of the first layers, that say how many there are, as they stand in ``config``; all experts
    stay, for their weights are read."""
    text = {name: _shortened(config[name], first[name]) for name in ("text_config",) if isinstance(config.get(name), dict)}
    if text:
        return {"text_config": config["text_config"] | text["text_config"]}
    total = config.get("num_hidden_layers")
    lists = {name: value for name, value in first.items() if isinstance(value, list) and isinstance(config.get(name), list)}
    counted = {name: value for name, value in lists.items() if total is None or len(config[name]) == total}
    return counted | ({"num_hidden_layers": first["num_hidden_layers"]} if total is not None else {})


def _gradient(network: Network, rows: Sequence[TokenizedRow], parameters: dict[str, torch.nn.Parameter]) -> torch.Tensor:
    """All gradients of the summed loss of ``rows``, as one vector."""
    tokens = sum(len(row.ids) for row in rows)
    losses = [network.loss_sum(network.pack(part)) for part in divide(rows, len(rows) * tokens, network.layout)]
    found = torch.autograd.grad(torch.stack(losses).sum(), list(parameters.values()), allow_unused=True)
    return torch.cat([grad.flatten().double() for grad in found if grad is not None])
