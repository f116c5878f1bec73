"""Cross-entropy of the answers, with its gradient computed in the forward pass.

Proof, on an architecture's first layers at random weights, of the passes that compute what transformers does with each row alone.

Rows are packed behind a shared prefix (with tree attention), padded to one length, or computed one at a time. The first layout whose losses
and gradients agree with those of each row alone, in fp32, on rows of different lengths with a shared beginning, is used.

Base model: read, moved to its device, and run on packed rows.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import logging as transformers_verbosity

from tailorbird.decoders import blocks, first_layers, model_class, narrowed, turning_of, window_of
from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.plan import PassLayout
from tailorbird.system.machine import resident_gib, return_growth
from tailorbird.system.process import model_load
from tailorbird.training.batches import Packed, RowLayout, TokenizedRow, pack
from tailorbird.training.devices import is_gpu
from tailorbird.training.process_group import ProcessGroup
from tailorbird.training.tree_attention import TREE_ATTENTION, install_tree_attention

#: Tokens whose logits exist at once: 256 × 49,152 in fp32 are 48 MiB.
_BLOCK = 256

#: Of these, so many are in fp32 at once: 16 × 49,152 are 3 MiB.
_ROWS = 16


class AnswerLoss(torch.autograd.Function):
    """Sum over tokens of -log softmax(hidden · headᵀ)[target], in fp32.

    ``hidden_AH`` and ``head_VH`` are multiplied in ``dtype``. A frozen head costs two matmuls a token instead of the three of autograd with
    recomputation (the idea of Liger-Kernel's fused linear cross-entropy); a trained one costs three, its gradient held in fp32.
    """

    @staticmethod
    def forward(ctx: Any, hidden_AH: torch.Tensor, head_VH: torch.Tensor, targets_A: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The summed loss, a scalar in fp32."""
        needs_hidden, needs_head = ctx.needs_input_grad[:2]
        weight_VH = head_VH.to(dtype)
        grad_AH = torch.empty_like(hidden_AH) if needs_hidden else None
        grad_VH = torch.zeros_like(head_VH, dtype=torch.float32) if needs_head else None
        total = torch.zeros((), dtype=torch.float32, device=hidden_AH.device)
        for start in range(0, hidden_AH.shape[0], _BLOCK):
            here = slice(start, start + _BLOCK)
            block_bH = hidden_AH[here].to(dtype)
            losses_b, error_bV = _block(block_bH @ weight_VH.T, targets_A[here])
            total += losses_b.sum()
            if grad_AH is not None:
                grad_AH[here] = error_bV @ weight_VH
            if grad_VH is not None:
                grad_VH += (error_bV.T @ block_bH).float()
        ctx.save_for_backward(grad_AH, grad_VH)
        ctx.head_dtype = head_VH.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None, None]:
        """The stored gradients, scaled; that of the head in place, for it is as large as the head: a second backward pass is refused."""
        grad_AH, grad_VH = ctx.saved_tensors
        scale = upstream[0]
        head = None if grad_VH is None else grad_VH.mul_(scale).to(ctx.head_dtype)
        return None if grad_AH is None else grad_AH * scale.to(grad_AH.dtype), head, None, None


#: The summed loss; torch leaves ``Function.apply`` untyped.
answer_loss: Any = AnswerLoss.apply


@torch.no_grad()
def answer_losses(hidden_AH: torch.Tensor, head_VH: torch.Tensor, targets_A: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """-log softmax(hidden · headᵀ)[target] of each token, in fp32: (A,)."""
    weight_HV = head_VH.to(dtype).T
    parts = zip(torch.split(hidden_AH, _BLOCK), torch.split(targets_A, _BLOCK), strict=True)
    return torch.cat([_block(hidden_bH.to(dtype) @ weight_HV, targets_b)[0] for hidden_bH, targets_b in parts])


def _block(logits_bV: torch.Tensor, targets_b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses of a block's tokens, and the derivative of their sum by the logits (softmax - one-hot) in their type.

    A few rows at a time on a CPU, so that what is fp32 stays in its cache; all at once on a GPU.
    """
    losses_b1, error_bV = torch.empty(len(logits_bV), 1, device=logits_bV.device), torch.empty_like(logits_bV)
    rows = len(logits_bV) if is_gpu(logits_bV.device) else _ROWS
    for start in range(0, len(logits_bV), rows):
        here = slice(start, start + rows)
        logits_rV, target_r1 = logits_bV[here].float(), targets_b[here, None]
        highest_r1 = logits_rV.amax(dim=-1, keepdim=True)
        shifted_at_target_r1 = logits_rV.gather(1, target_r1) - highest_r1
        softmax_rV = logits_rV.softmax(dim=-1)
        # The highest probability is at least 1 / V: its logarithm gives the normaliser without losing anything.
        log_normaliser_r1 = -softmax_rV.amax(dim=-1, keepdim=True).log()
        losses_b1[here] = log_normaliser_r1 - shifted_at_target_r1
        error_bV[here] = softmax_rV.scatter_add_(1, target_r1, torch.full_like(shifted_at_target_r1, -1))
    return losses_b1[:, 0], error_bV


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
    """``layout``: how rows are laid out for a pass. ``head_scale``: logits are this multiple of hidden states times the head; None where
    they are not, and the model's own forward pass makes them."""

    layout: RowLayout
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
            layout, scale = _tried(config)
    finally:
        _logging.set_verbosity(verbosity)
    return ForwardProof(layout, scale, time.monotonic() - started)


def _tried(config: Any) -> tuple[RowLayout, float | None]:
    """Layout and head scale, at the model's own width where that is small, else narrower. What can be
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
    return RowLayout.PADDED, None


def _compared(made: Any) -> tuple[RowLayout, float | None]:
    model = _randomised(made)
    trials = [_Trial(model, seed) for seed in range(_SEEDS)]
    # One multiple for all, without what rounding adds.
    scales = [trial.head_scale() for trial in trials]
    known = [scale for scale in scales if scale is not None]
    if len(known) < len(scales) or max(known) - min(known) > 1e-4 * abs(known[0]):
        scale: float | None = None
    else:
        scale = float(f"{sum(known) / len(known):.5g}")
    layouts = [layout for layout in RowLayout if _passes(trials, partial(_Trial.laid_out, layout=layout, scale=scale))]
    return (layouts or [RowLayout.SINGLE])[0], scale


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

    def laid_out(self, layout: RowLayout, scale: float | None) -> torch.Tensor:
        """By transformers, as ``Network`` asks it."""
        packed = self._packed(layout)
        if layout is RowLayout.SINGLE:
            return self.reference
        self._model.set_attn_implementation(TREE_ATTENTION if layout is RowLayout.TREE else self._default)
        try:
            losses = cross_entropy(transformers_logits(self._model, packed, scale), packed.targets_A, reduction="none")
            return self._told(torch.cat([losses[packed.owners_A == place] for place in range(len(self._rows))]))
        finally:
            self._model.set_attn_implementation(self._default)

    def _packed(self, layout: RowLayout) -> Packed:
        return pack(self._rows, torch.float32, _CPU, layout)


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


_TOLD = {
    RowLayout.TREE: "rows packed behind their shared prefix",
    RowLayout.PADDED: "rows padded and sorted by length",
    RowLayout.SINGLE: "one row at a time",
}

Precision = Literal["bf16", "fp32"]
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def read_model(folder: Path, dtype: torch.dtype, device: torch.device, quantisation: Any = None) -> PreTrainedModel:
    """The model in ``folder``, in training mode, without dropout; with ``quantisation``, its linear layers are quantised as they are read.

    Raises ModelInvalid.
    """
    before = resident_gib()
    install_tree_attention()
    _logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        packs = proof_of(config).layout is RowLayout.TREE
        with model_load:
            model: Any = model_class(config).from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                **({"attn_implementation": TREE_ATTENTION} if packs else {}),
                **({"quantization_config": quantisation, "device_map": {"": device}} if quantisation else {}),
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelInvalid(
            f"the base model in {folder.name} cannot be read ({type(error).__name__})",
            "fetch the base model again: tailorbird models pull",
            code="model_unreadable",
        ) from error
    placed: PreTrainedModel = model.to(device).eval()
    return_growth(before)  # experts as they were read, one by one, before they were joined
    return placed


def output_head(model: Any) -> Any:
    """The layer that turns hidden states into logits."""
    return model.get_output_embeddings()


def layout_within(config: Any, layout: RowLayout, rows: Sequence[TokenizedRow]) -> RowLayout:
    """``layout``, or the one that ``rows`` take where the longest exceeds what ``layout`` was proven for.

    Beyond a window rows are padded instead of packed. Where rotary factors follow from the longest row of a pass, each row is alone.
    """
    return layout_for(config, layout, max(len(row.ids) for row in rows))


def layout_for(config: Any, layout: RowLayout, longest: int) -> RowLayout:
    """As ``layout_within``, for rows of at most ``longest`` tokens."""
    turned, window = turning_of(config), window_of(config)
    if turned is not None and longest > turned:
        return RowLayout.SINGLE
    if layout is RowLayout.TREE and window is not None and longest > window:
        return RowLayout.PADDED
    return layout


_NAMES: dict[RowLayout, PassLayout] = {RowLayout.TREE: "packed", RowLayout.PADDED: "padded", RowLayout.SINGLE: "single"}


def row_layout(source: Path, longest: int) -> PassLayout:
    """As ``Trainer.row_layout``. An architecture that the proof cannot build is padded, as every decoder may be."""
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        return _NAMES[layout_for(config, proof_of(config).layout, longest)]
    except Exception:  # noqa: BLE001 - it is told by the training, or by the description of the model
        return "padded"


def _look_up_between_layers(model: Any) -> None:
    """Lets signals in between the layers of a backward pass too: torch goes through it without Python, where nothing asks for Python."""

    def hook(_layer: Any, _inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.requires_grad:
            hidden.register_hook(_pass_by)

    for layer in blocks(model):
        layer.register_forward_hook(hook)


def _pass_by(_gradient: torch.Tensor) -> None:
    """Changes nothing; Python answers signals whenever it runs."""


class Network:
    """A model that computes in ``precision``, whatever type its weights are held in."""

    def __init__(self, model: PreTrainedModel, precision: Precision, team: ProcessGroup | None = None) -> None:
        self.model = model
        self.team = team or ProcessGroup()
        self.device = model.device
        self.dtype = TYPES[precision]
        self._head = output_head(model)
        self._autocast = model.dtype is not self.dtype
        proof = proof_of(model.config)
        #: How rows are laid out for a pass.
        self.layout = proof.layout
        self._head_scale = proof.head_scale
        _look_up_between_layers(model)

    def settle(self, rows: Sequence[TokenizedRow]) -> None:
        """Gives up a layout that one of ``rows`` is too long for: ``layout_within``. Raises ModelInvalid where a row has a token that the
        model does not embed."""
        self._check_embedded(rows)
        packed, self.layout = self.layout is RowLayout.TREE, layout_within(self.model.config, self.layout, rows)
        if packed and self.layout is not RowLayout.TREE:
            self.model.set_attn_implementation("sdpa" if self.model._supports_sdpa else "eager")

    def _check_embedded(self, rows: Sequence[TokenizedRow]) -> None:
        table: Any = self.model.get_input_embeddings()
        highest, embedded = max(max(row.ids) for row in rows), int(table.weight.shape[0])
        if highest >= embedded:
            raise ModelInvalid(
                f"the tokenizer of the base model gives the token {highest:,}, and the model embeds {embedded:,} tokens",
                "fetch model and tokenizer from one place: these do not belong together",
                code="model_unreadable",
            )

    @property
    def pass_told(self) -> dict[str, str]:
        """How rows are laid out."""
        return {"pass": _TOLD[self.layout]}

    def pack(self, rows: Sequence[TokenizedRow]) -> Packed:
        """``rows`` laid out for a pass."""
        return pack(rows, self.dtype, self.device, self.layout)

    def loss_sum(self, packed: Packed) -> torch.Tensor:
        """The loss of all answer tokens, summed, in nats: a scalar in fp32. Rows never see one another."""
        if self._head_scale is None:
            return cross_entropy(self._own_logits(packed), packed.targets_A, reduction="sum")
        hidden_AH = self._hidden(packed)
        loss: torch.Tensor = answer_loss(hidden_AH, self._head.weight, packed.targets_A, self.dtype)
        return loss

    @torch.no_grad()
    def answer_losses(self, packed: Packed) -> torch.Tensor:
        """The loss of each answer token, in nats: (A,) in fp32, without gradients."""
        if self._head_scale is None:
            return cross_entropy(self._own_logits(packed), packed.targets_A, reduction="none")
        return answer_losses(self._hidden(packed), self._head.weight, packed.targets_A, self.dtype)

    def _hidden(self, packed: Packed) -> torch.Tensor:
        """Hidden states (A, H) that predict answer tokens."""
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self._autocast):
            hidden_AH = transformers_hidden(self.model, packed)
        return hidden_AH if self._head_scale == 1.0 else hidden_AH * (self._head_scale or 1.0)

    def _own_logits(self, packed: Packed) -> torch.Tensor:
        """Logits (A, V) in fp32, where the model does more than multiply with its head."""
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self._autocast):
            return transformers_logits(self.model, packed, None).float()

    @torch.no_grad()
    def plain_loss_sum(self, row: TokenizedRow) -> float:
        """The same for one row by the model's own forward pass: no packing, no tree, all logits."""
        ids_1T = torch.tensor([row.ids], device=self.device)
        places_A = torch.tensor([place for start, end in row.spans for place in range(start, end)], device=self.device)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self._autocast):
            logits_TV = self.model(input_ids=ids_1T[:, :-1], use_cache=False).logits[0, places_A - 1]
        return float(cross_entropy(logits_TV.float(), ids_1T[0, places_A], reduction="sum"))
