"""Proof, on an architecture's first layers at random weights, of the passes that compute what transformers does with each row alone.

Three ways to compute many rows at once: packed behind a shared prefix (by the written-out pass or by transformers with tree attention),
padded to one length, or one row at a time. Which of them an architecture bears, no list of names tells: losses and gradients do, in fp32,
on rows of different lengths, some with a shared beginning. What passes is used; what fails or raises is not.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers.utils import logging as transformers_verbosity

from tailorbird.system.model_load import model_load
from tailorbird.training.architecture import first_layers, model_class, narrowed
from tailorbird.training.batches import Packed, RowLayout, pack
from tailorbird.training.decoder import Decoder, is_written_out
from tailorbird.training.tokenization import TokenizedRow
from tailorbird.training.tree_attention import TREE_ATTENTION, install_tree_attention

#: Relative error of losses and gradients in fp32: rounding stays below 1e-4, a row that sees another one or a norm left out is above 1e-2.
_TOLERANCE = 1e-3
#: Tokens of the rows: the first ``_SHARED`` are the same in all.
_SHARED, _LENGTHS, _ANSWERS = 12, (18, 31, 61), 4
#: Rows of the embedding.
_VOCABULARY = 256
#: Parameters of the model of a proof, which are held in fp32 (64 MiB): a wider architecture is made narrower, to so many heads.
MOST_PARAMETERS = 2**24
_HEADS = (4, 2)
#: Trials: near the boundary between two experts rounding alone may send a token elsewhere, in one of them.
_SEEDS = 3
_CPU = torch.device("cpu")
_log = logging.getLogger("tailorbird.training")
#: transformers leaves these functions untyped.
_logging: Any = transformers_verbosity


@dataclass(frozen=True)
class ForwardProof:
    """``layout``: how rows are laid out for a pass. ``written_out``: whether the written-out decoder computes it. ``head_scale``: logits
    are this multiple of hidden states times the head; None where they are not, and the model's own forward pass makes them."""

    layout: RowLayout
    written_out: bool
    head_scale: float | None
    seconds: float


_PROOFS: dict[str, ForwardProof] = {}
_TRANSIENT = {"dtype", "torch_dtype", "quantization_config", "_name_or_path", "transformers_version", "use_cache", "_attn_implementation"}


def proof_of(config: Any) -> ForwardProof:
    """The proof for models of ``config``, made once a process."""
    key = json.dumps(_lasting(config.to_dict()), sort_keys=True, default=str)
    if key not in _PROOFS:
        _PROOFS[key] = _prove(config)
    return _PROOFS[key]


def _lasting(value: Any) -> Any:
    """``value`` of a config, or of a config within it, without what reading weights writes there."""
    if isinstance(value, dict):
        return {name: _lasting(part) for name, part in value.items() if name not in _TRANSIENT}
    return value


def _prove(config: Any) -> ForwardProof:
    started, verbosity = time.monotonic(), _logging.get_verbosity()
    _logging.set_verbosity_error()
    install_tree_attention()
    try:
        with torch.random.fork_rng(devices=[]):
            layout, written_out, scale = _tried(config)
    finally:
        _logging.set_verbosity(verbosity)
    return ForwardProof(layout, written_out, scale, time.monotonic() - started)


def _tried(config: Any) -> tuple[RowLayout, bool, float | None]:
    """Layout, whether the pass is written out, and head scale, at the model's own width where that is small, else narrower. What can be
    made no narrower is padded, with logits of its own, which is right in any decoder, if seldom fastest."""
    made = _cut(config)
    if (whole := _parameters(made)) <= MOST_PARAMETERS:
        return _compared(made)
    for heads in _HEADS:
        with suppress(Exception):
            narrow = narrowed(made, heads)
            if _parameters(narrow) <= MOST_PARAMETERS:
                return _compared(narrow)
    _log.debug("%s is too wide to be proven (%d parameters)", config.model_type, whole)
    return RowLayout.PADDED, False, None


def _compared(made: Any) -> tuple[RowLayout, bool, float | None]:
    model = _randomised(made)
    trials = [_Trial(model, seed) for seed in range(_SEEDS)]
    scale = _agreed([trial.head_scale() for trial in trials])
    written_out = is_written_out(model) and scale is not None and _passes(trials, partial(_Trial.written_out, scale=scale))
    layouts = [layout for layout in RowLayout if _passes(trials, partial(_Trial.laid_out, layout=layout, scale=scale))]
    return RowLayout.TREE if written_out else (layouts or [RowLayout.SINGLE])[0], written_out, scale


def _parameters(made: Any) -> int:
    """Parameters of a model of ``made``, which is built without memory for them."""
    with model_load, torch.device("meta"):
        model = model_class(made).from_config(made, dtype=torch.float32)
    return sum(parameter.numel() for parameter in model.parameters())


def _cut(config: Any) -> Any:
    """The config of the first layers of a model of ``config``, with few words."""
    made = first_layers(config)
    text = made.get_text_config(decoder=True)
    for name in ("vocab_size", "vocab_size_per_layer_input"):
        if isinstance(getattr(text, name, None), int):
            setattr(text, name, min(_VOCABULARY, getattr(text, name)))
    for holder in (made, text):
        holder.pad_token_id = None
        holder.quantization_config = None
        del holder.quantization_config
    return made


def _randomised(made: Any) -> Any:
    """A model of ``made`` at random weights large enough that every part of it counts."""
    torch.manual_seed(0)
    with model_load:
        model = model_class(made).from_config(made, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=1.2 * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
        model.get_input_embeddings().weight.normal_()
    return model


def _passes(trials: Sequence[_Trial], way: Callable[[_Trial], torch.Tensor]) -> bool:
    """True when ``way`` gives the reference of any trial. What it raises is an answer, too."""
    for trial in trials:
        try:
            found = way(trial)
        except Exception:  # noqa: BLE001 - whatever an architecture cannot do, it cannot do
            return False
        error = (found - trial.reference).norm() / trial.reference.norm()
        if bool(torch.isfinite(found).all()) and float(error) <= _TOLERANCE:
            return True
    return False


def _agreed(scales: Sequence[float | None]) -> float | None:
    """One multiple for all, without what rounding adds."""
    known = [scale for scale in scales if scale is not None]
    if len(known) < len(scales) or max(known) - min(known) > 1e-4 * abs(known[0]):
        return None
    return float(f"{sum(known) / len(known):.5g}")


class _Trial:
    """Random rows, with losses of their answers and gradients as transformers computes them, each row alone."""

    def __init__(self, model: Any, seed: int) -> None:
        self._model = model
        drawn = torch.Generator().manual_seed(seed)
        beginning = torch.randint(9, _words(model), (_SHARED,), generator=drawn).tolist()
        tails = [torch.randint(9, _words(model), (length - _SHARED,), generator=drawn).tolist() for length in _LENGTHS]
        self._rows = [TokenizedRow((*beginning, *tail), length - _ANSWERS) for tail, length in zip(tails, _LENGTHS, strict=True)]
        self._learned = [model.get_input_embeddings().weight, *(p for p in model.parameters() if p.ndim == 1 and p.requires_grad)]
        self._default = model.config._attn_implementation
        #: Norms of the reference: until it is known, nothing is divided.
        self._norms = (1.0, 1.0)
        found = self._told(losses := torch.cat([self._alone(row) for row in self._rows]))
        self._norms = (float(found[: len(losses)].norm()), float(found[len(losses) :].norm()))
        self.reference = torch.cat([found[: len(losses)] / self._norms[0], found[len(losses) :] / self._norms[1]])

    def _alone(self, row: TokenizedRow) -> torch.Tensor:
        ids = torch.tensor([row.ids])
        logits = self._model(input_ids=ids[:, :-1], use_cache=False).logits[0, row.prompt - 1 :]
        return cross_entropy(logits, ids[0, row.prompt :], reduction="none")

    def _told(self, losses: torch.Tensor) -> torch.Tensor:
        """Losses and gradients as one vector, each divided by the norm of the reference's."""
        found = torch.autograd.grad(losses.sum(), self._learned, allow_unused=True)
        grads = [torch.zeros_like(p) if grad is None else grad for p, grad in zip(self._learned, found, strict=True)]
        gradient = torch.cat([grad.flatten() for grad in grads])
        return torch.cat([losses.detach() / self._norms[0], gradient / self._norms[1]])

    @torch.no_grad()
    def head_scale(self) -> float | None:
        """The multiple of hidden states times the head that logits are; None where they are something else."""
        ids, head = torch.tensor([self._rows[-1].ids]), self._model.get_output_embeddings()
        if {name for name, _ in head.named_parameters()} != {"weight"}:
            return None
        try:
            hidden = self._model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
            logits = self._model(input_ids=ids, use_cache=False).logits
        except Exception:  # noqa: BLE001 - a decoder that cannot be called by itself
            return None
        plain = hidden @ head.weight.T
        scale = float((logits * plain).sum() / plain.square().sum())
        return scale if float((logits - scale * plain).abs().max()) <= 1e-4 * float(logits.abs().max()) else None

    def written_out(self, scale: float | None) -> torch.Tensor:
        """By ``Decoder``."""
        packed = self._packed(RowLayout.TREE)
        hidden = Decoder(self._model, torch.float32)(packed)
        logits = (scale or 1.0) * hidden @ self._model.get_output_embeddings().weight.T
        return self._told(self._by_row(packed, cross_entropy(logits, packed.targets_A, reduction="none")))

    def laid_out(self, layout: RowLayout, scale: float | None) -> torch.Tensor:
        """By transformers, as ``Network`` asks it."""
        packed = self._packed(layout)
        if layout is RowLayout.SINGLE:
            return self.reference
        self._model.set_attn_implementation(TREE_ATTENTION if layout is RowLayout.TREE else self._default)
        try:
            losses = cross_entropy(transformers_logits(self._model, packed, scale), packed.targets_A, reduction="none")
            return self._told(self._by_row(packed, losses))
        finally:
            self._model.set_attn_implementation(self._default)

    def _packed(self, layout: RowLayout) -> Packed:
        return pack(self._rows, torch.float32, _CPU, layout)

    def _by_row(self, packed: Packed, losses_A: torch.Tensor) -> torch.Tensor:
        return torch.cat([losses_A[packed.owners_A == place] for place in range(len(self._rows))])


def _words(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


#: This 4-D mask tells transformers to build none of its own: attention over packed rows comes with the rows.
_NO_MASK = torch.empty(1, 1, 0, 0)


def transformers_hidden(model: Any, packed: Packed) -> torch.Tensor:
    """Hidden states (A, H) that predict answer tokens, by the decoder's own forward pass."""
    output = model.get_decoder()(**_asked(packed))
    hidden_AH: torch.Tensor = output.last_hidden_state.flatten(0, 1).index_select(0, packed.answers_A)
    return hidden_AH


def transformers_logits(model: Any, packed: Packed, scale: float | None) -> torch.Tensor:
    """Logits (A, V) of answer tokens: hidden states times the head, or, where ``scale`` is None, what the model makes of them."""
    head = model.get_output_embeddings()
    if scale is not None:
        plain_AV: torch.Tensor = scale * transformers_hidden(model, packed) @ head.weight.T
        return plain_AV

    def answers_alone(_head: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (given[0].flatten(0, -2).index_select(0, packed.answers_A)[None], *given[1:])

    hook = head.register_forward_pre_hook(answers_alone)
    try:
        logits_AV: torch.Tensor = model(**_asked(packed)).logits[0]
    finally:
        hook.remove()
    return logits_AV


def _asked(packed: Packed) -> dict[str, Any]:
    if packed.tree is None:
        return {"input_ids": packed.ids_1T, "attention_mask": packed.mask_BT, "use_cache": False}
    return {
        "input_ids": packed.ids_1T,
        "attention_mask": _NO_MASK,
        "position_ids": packed.positions_1T,
        "use_cache": False,
        "tree": packed.tree,
    }
